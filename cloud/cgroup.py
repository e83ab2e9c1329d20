# SPDX-License-Identifier: Apache-2.0
"""The control group that contains all processes of this cloud.

A process cannot leave it by forking, by changing its name or by changing its
environment. It therefore also finds what a killed supervisord has left running.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal

from cloud import commands
from cloud import settings
from cloud.errors import QuickstartError
from cloud.probes import wait_until

_TOP = pathlib.Path("/sys/fs/cgroup")

# supervisord's configuration file in the state directory, which its command line names.
CONFIGURATION = "/etc/supervisord.conf"


def run_inside(*command: str | pathlib.Path) -> None:
    """Run a command, and whatever it starts, in the control group."""
    # cgroup v2 has one hierarchy; of v1's hierarchies, any will do.
    top = next(path for path in (_TOP, _TOP / "pids") if _is_hierarchy(path))
    group = top / settings.CGROUP / "services"
    group.mkdir(parents=True, exist_ok=True)
    join = f'echo $$ > {group}/cgroup.procs && exec "$@"'
    commands.run("sh", "-c", join, "sh", *command)


def kill() -> None:
    """Kill all processes in the control group, and wait until they are gone.

    :raises QuickstartError: if they belong to a cloud in another state directory,
        which is running
    """
    for pid in processes():
        if (other := _state_directory(pid)) and other != settings.STATE:
            raise QuickstartError(
                f"this machine runs a cloud in {other} and cannot run a second one; "
                f"stop it with NOVA_DOCKER_CLOUD_DIR={other} ./quickstart down"
            )

    def kill_all() -> bool:
        found = processes()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        thaw()
        return not found

    wait_until(kill_all, "processes of this cloud survive SIGKILL", timeout=30)


def thaw(name: str = settings.CGROUP) -> None:
    """Thaw paused servers: with cgroup v1, no signal reaches a frozen process.

    :param name: of the group, as for :func:`processes`
    """
    for group in _groups(name):
        for file in group.rglob("freezer.state"):
            with contextlib.suppress(OSError):
                file.write_text("THAWED")


def remove() -> None:
    """Remove the control group, which must be empty."""
    for top in _groups():
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _state_directory(pid: int) -> pathlib.Path | None:
    """Return the state directory of a supervisord, None for other processes."""
    try:
        words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return None
    for word in words:
        if word.endswith(CONFIGURATION):
            return pathlib.Path(word.removesuffix(CONFIGURATION))
    return None


def _is_hierarchy(path: pathlib.Path) -> bool:
    return (path / "cgroup.procs").exists()


def _groups(name: str = settings.CGROUP) -> list[pathlib.Path]:
    """Return the directories of a group, one per hierarchy that contains it."""
    places = (_TOP, *_TOP.iterdir())
    return [place / name for place in places if (place / name).is_dir()]


def processes(name: str = settings.CGROUP) -> set[int]:
    """Return the IDs of all processes in the control group.

    :param name: of a control group within it, to return only its processes
    """
    found: set[int] = set()
    for group in _groups(name):
        for file in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(map(int, file.read_text().split()))
    return found
