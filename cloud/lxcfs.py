# SPDX-License-Identifier: Apache-2.0
"""lxcfs, whose files show servers their own CPUs, memory and uptime in /proc.

It is an instance of the cloud's own, beside one that the machine may run.
"""

from __future__ import annotations

import pathlib
import subprocess

from cloud.settings import RUN

POINT = RUN / "lxcfs"
FUSE = pathlib.Path("/dev/fuse")

# For each file that a server opens, lxcfs has a buffer, which nobody charges to the
# server. At this limit of its address space, opening another one fails.
_MOST_BYTES = 512 << 20


def point() -> str:
    """Return where lxcfs is mounted, empty if this machine cannot run it."""
    return str(POINT) if FUSE.exists() else ""


def command() -> str:
    """Return the command line of lxcfs.

    One that was killed has left its mount, which lets no other one start.
    """
    script = (
        f"umount --lazy {POINT} 2>/dev/null; mkdir -p {POINT} && "
        f"exec prlimit --as={_MOST_BYTES} lxcfs --foreground --enable-loadavg"
        f" --enable-cfs --pidfile={RUN}/lxcfs.pid {POINT}"
    )
    return f"/bin/sh -c '{script}'"


def is_ready() -> bool:
    """Tell whether lxcfs answers."""
    ask = ["timeout", "--signal=KILL", "2", "cat", f"{POINT}/proc/uptime"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0
