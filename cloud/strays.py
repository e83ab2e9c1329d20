# SPDX-License-Identifier: Apache-2.0
"""Processes of this cloud that nothing supervises any more."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal

from cloud import settings
from cloud import shell

# In the environment of every service, so that those that a killed supervisord
# has left behind are known from everybody else's.
MARK = "NOVA_DOCKER_QUICKSTART_SERVICE"


def kill() -> None:
    """Kill them, and wait until they are gone."""
    found = _services() | _containers()
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shell.wait_until(
        lambda: not (_services() | _containers()) & found,
        f"killed processes do not end: {sorted(found)}",
        timeout=20,
    )


def cgroups() -> list[pathlib.Path]:
    """Return the control groups of the cloud's own engine."""
    top = pathlib.Path("/sys/fs/cgroup")
    name = settings.CGROUP_PARENT
    return [path for path in (top / name, *top.glob(f"*/{name}")) if path.is_dir()]


def _services() -> set[int]:
    mark = f"{MARK}={settings.STATE}".encode()
    found: set[int] = set()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        # It may end just now; the kernel's own have no environment.
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
    return found


def _containers() -> set[int]:
    found: set[int] = set()
    for group in cgroups():
        for procs in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found.update(map(int, procs.read_text().split()))
    return found
