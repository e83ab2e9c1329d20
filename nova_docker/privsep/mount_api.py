# SPDX-License-Identifier: Apache-2.0
"""The kernel's mount API (since Linux 5.2), of which Python has no functions.

The functions only make system calls: a child process may call them. The OCI runtime has
its own, in ``lib/nova-docker``, because it runs without this package.
"""

from __future__ import annotations

import os
import struct

from nova_docker.privsep import child

_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_AT_FDCWD, _AT_EMPTY_PATH = -100, 0x1000
_OPEN_TREE_CLONE = 1
_F_EMPTY_PATH, _T_EMPTY_PATH = 0x04, 0x40

_AT_RECURSIVE = 0x8000
_RESOLVE_NO_SYMLINKS, _RESOLVE_IN_ROOT = 0x04, 0x10

RDONLY, NOSUID, NODEV, NOEXEC, IDMAP = 0x1, 0x2, 0x4, 0x8, 0x100000
#: A propagation: what is mounted on a copy of a mount stays there.
PRIVATE = 1 << 18


def clone(path: str) -> int:
    """Return a descriptor of a copy of a mount, which is mounted nowhere yet.

    :param path: a file or directory, which becomes the root of the copy
    """
    return child.check(
        child.libc.syscall(
            *(_OPEN_TREE, _AT_FDCWD, os.fsencode(path)),
            _OPEN_TREE_CLONE | os.O_CLOEXEC,
        ),
        f"open_tree {path}",
    )


def change(
    tree: int, *, set: int = 0, clear: int = 0, propagation: int = 0, userns: int = 0
) -> None:
    """Change the attributes of a mount that :func:`clone` has returned.

    :param propagation: 0 to keep it
    :param userns: descriptor of a user namespace, for :data:`IDMAP`
    """
    attributes = struct.pack("=QQQQ", set, clear, propagation, userns)
    child.check(
        child.libc.syscall(
            *(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH),
            *(attributes, len(attributes)),
        ),
        "mount_setattr",
    )


def move(tree: int, path: str) -> None:
    """Mount what :func:`clone` has returned at a path."""
    child.check(
        child.libc.syscall(
            *(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(path)),
            _F_EMPTY_PATH,
        ),
        f"move_mount {path}",
    )


def move_onto(tree: int, target: int) -> None:
    """Mount what :func:`clone` has returned on an open file or directory."""
    child.check(
        child.libc.syscall(
            *(_MOVE_MOUNT, tree, b"", target, b""), _F_EMPTY_PATH | _T_EMPTY_PATH
        ),
        "move_mount",
    )


def confine_to(directory: str) -> None:
    """Let a process write in one directory only, whatever its privileges are.

    It must have a mount namespace of its own, of which it may not be the first process.
    """
    _change_all(propagation=PRIVATE)
    own = clone(directory)
    # Device nodes can be made, and not opened.
    change(own, set=NOSUID | NODEV | NOEXEC)
    _change_all(set=RDONLY | NODEV)
    move(own, directory)
    os.close(own)
    os.chdir(directory)


def _change_all(*, set: int = 0, propagation: int = 0) -> None:
    """Change the attributes of all mounts below /, as :func:`change` does of one."""
    attributes = struct.pack("=QQQQ", set, 0, propagation, 0)
    child.check(
        child.libc.syscall(
            *(_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE),
            *(attributes, len(attributes)),
        ),
        "mount_setattr",
    )


def open_beneath(top: int, path: str) -> int:
    """Return a descriptor of a directory, only to find what is in it.

    No symbolic link is followed, and no path leads out of the top.

    :param top: descriptor of a directory
    :param path: below it
    """
    how = struct.pack(
        "=QQQ",
        os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
        0,
        _RESOLVE_NO_SYMLINKS | _RESOLVE_IN_ROOT,
    )
    return child.check(
        child.libc.syscall(_OPENAT2, top, os.fsencode(path), how, len(how)),
        f"open {path}",
    )
