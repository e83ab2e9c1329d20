# SPDX-License-Identifier: Apache-2.0
"""What is below a directory: its mount, and a block device to limit."""

from __future__ import annotations

import os
import pathlib
import stat
from typing import Any

import psutil

_BLOCK = pathlib.Path("/sys/dev/block")


def device_of(path: str) -> str | None:
    """Return the disk with a directory; None if there is none, as for a tmpfs.

    The kernel limits whole disks only, so it is never a partition. Of a file system on
    several disks, it is the one that was mounted.
    """
    number = os.stat(path).st_dev
    if not os.major(number):
        # btrfs and overlay have numbers of their own.
        number = _number(mount_of(path))
    found = (_BLOCK / f"{os.major(number)}:{os.minor(number)}").resolve()
    if not found.exists():
        return None
    disk = found.parent if (found / "partition").exists() else found
    return "/dev/" + disk.name.replace("!", "/")


def mount_of(path: str) -> Any:
    """Return the mount that a directory is on, as psutil describes it; None if none."""
    mounts = [
        part
        for part in psutil.disk_partitions(all=True)
        if os.path.commonpath([path, part.mountpoint]) == part.mountpoint
    ]
    return max(mounts, key=lambda part: len(part.mountpoint), default=None)


def _number(mount: Any) -> int:
    """Return the number of the block device that is mounted, 0 if there is none."""
    try:
        found = os.stat(mount.device if mount else "")
    except OSError:
        return 0
    return found.st_rdev if stat.S_ISBLK(found.st_mode) else 0
