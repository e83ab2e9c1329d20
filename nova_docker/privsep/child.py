# SPDX-License-Identifier: Apache-2.0
"""A child process that makes a namespace.

Only a process with a single thread can make or enter a user namespace, and the
privileged daemon has several. Another thread may hold any lock at the moment of the
fork, so the child only makes system calls.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from collections.abc import Iterator

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)


def check(result: int, what: str) -> int:
    """Return the result of a function of the C library.

    :raises OSError: if it has failed
    """
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


@contextlib.contextmanager
def making(make: Callable[[], None], kind: str) -> Iterator[tuple[int, int]]:
    """Have a child make a namespace, and end it after the block.

    The child also ends if this process is killed.

    :param make: called in the child; only makes system calls
    :param kind: of the namespace, as in /proc/PID/ns
    :yields: the child's process ID, and a descriptor of its namespace
    :raises OSError: if it cannot be made
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        _child(make, f"/proc/self/ns/{kind}", theirs.fileno(), ours.fileno())
    try:
        with ours:
            theirs.close()
            answer, fds, _, _ = socket.recv_fds(ours, 1024, 1)
            if not fds:
                error, _, message = answer.decode().partition(" ")
                raise OSError(int(error or 0), message or f"no {kind} namespace")
            try:
                yield child, fds[0]
            finally:
                os.close(fds[0])
                # Another child may hold a copy of this end: closing is not enough.
                with contextlib.suppress(OSError):
                    ours.send(b"\0")
    finally:
        os.waitpid(child, 0)


def _child(make: Callable[[], None], path: str, theirs: int, ours: int) -> None:
    """Make a namespace and send its descriptor; never return."""
    try:
        os.close(ours)
        parent = socket.socket(fileno=theirs)
        try:
            make()
            fd = array.array("i", [os.open(path, os.O_RDONLY)])
            parent.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        except OSError as error:
            parent.send(f"{error.errno or 0} {error.strerror}".encode())
        parent.recv(1)
    finally:
        os._exit(0)
