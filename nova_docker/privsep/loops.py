# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on loop devices, for volumes that are files."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import struct
from collections.abc import Iterator

from nova_docker.privsep.contexts import devices_admin

_BLOCK = pathlib.Path("/sys/block")
_CONTROL = "/dev/loop-control"

_CLR_FD, _SET_CAPACITY, _CONFIGURE, _GET_FREE = 0x4C01, 0x4C07, 0x4C0A, 0x4C82
_READ_ONLY, _DIRECT_IO = 1, 16
# struct loop_config of linux/loop.h: file, block size, flags; the rest is zero.
_CONFIG = struct.Struct("=II52xI240x")
_ATTEMPTS = 8


@devices_admin.entrypoint
def attach(path: str, *, read_only: bool = False) -> str:
    """Return the path of a loop device of a file, a new one unless it has one."""
    if found := of(path):
        return found
    with _opened(path, os.O_RDONLY if read_only else os.O_RDWR) as file:
        for _ in range(_ATTEMPTS):
            device = _free()
            try:
                with _opened(device, os.O_RDWR) as loop:
                    _configure(loop, file, _READ_ONLY if read_only else 0)
            except OSError as error:
                # Somebody else was faster.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device
    raise OSError(errno.EBUSY, "all loop devices are in use", path)


@devices_admin.entrypoint
def detach(path: str) -> None:
    """Remove the loop device of a file, if it has one."""
    if device := of(path):
        with _opened(device, os.O_RDONLY) as loop:
            fcntl.ioctl(loop, _CLR_FD)


@devices_admin.entrypoint
def refresh(path: str) -> None:
    """Give the loop device of a file the file's size, if it has one."""
    if device := of(path):
        with _opened(device, os.O_RDONLY) as loop:
            fcntl.ioctl(loop, _SET_CAPACITY)


def of(path: str) -> str | None:
    """Return the path of a file's loop device, None if it has none."""
    backing = os.path.realpath(path)
    for file in _BLOCK.glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if file.read_text().rstrip("\n") == backing:
                return f"/dev/{file.parts[-3]}"
    return None


def _free() -> str:
    with _opened(_CONTROL, os.O_RDWR) as control:
        return f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}"


def _configure(loop: int, file: int, flags: int) -> None:
    try:
        fcntl.ioctl(loop, _CONFIGURE, _CONFIG.pack(file, 0, flags | _DIRECT_IO))
    except OSError as error:
        # The file system may not have it.
        if error.errno != errno.EINVAL:
            raise
        fcntl.ioctl(loop, _CONFIGURE, _CONFIG.pack(file, 0, flags))


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)
