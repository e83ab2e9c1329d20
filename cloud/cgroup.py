# SPDX-License-Identifier: Apache-2.0
"""The control group that all of this cloud's processes are in.

A process cannot leave it by itself, whatever it forks, calls itself, or does to
its environment: what a killed supervisord has left behind is found by it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal

from cloud import commands
from cloud import settings

_TOP = pathlib.Path("/sys/fs/cgroup")


def enclose(*command: str | pathlib.Path) -> None:
    """Run a command, and all that it starts, in the control group."""
    # One group for all (cgroup v2), or one of any kind (v1).
    top = next(path for path in (_TOP, _TOP / "pids") if _is_hierarchy(path))
    group = top / settings.CGROUP / "services"
    group.mkdir(parents=True, exist_ok=True)
    join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    commands.run("sh", "-c", join, "sh", *command)


def kill() -> None:
    """Kill all that is in the control group, and wait until it is gone."""

    def kill_all() -> bool:
        found = _processes()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    commands.wait_until(kill_all, "killed processes do not end", timeout=30)


def remove() -> None:
    """Remove the control group, after its last process."""
    for top in _groups():
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _is_hierarchy(path: pathlib.Path) -> bool:
    return (path / "cgroup.procs").exists()


def _groups() -> list[pathlib.Path]:
    """Return where the group is: in one hierarchy or, with v1, in many."""
    places = (_TOP, *_TOP.iterdir())
    return [p / settings.CGROUP for p in places if (p / settings.CGROUP).is_dir()]


def _processes() -> set[int]:
    found: set[int] = set()
    for group in _groups():
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(map(int, file.read_text().split()))
    return found
