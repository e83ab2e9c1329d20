# SPDX-License-Identifier: Apache-2.0
"""A child process that makes or enters namespaces.

Only a process with a single thread can make or enter a user namespace, or enter a mount
namespace, and the privileged daemon has several. Another thread may hold any lock at
the moment of the fork, so the child only makes system calls.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import os
import socket
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)

_END = b"\1"


def check(result: int, what: str) -> int:
    """Return the result of a function of the C library.

    :raises OSError: if it has failed
    """
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def unshare_network() -> None:
    """Give the calling thread a new network namespace of its user namespace."""
    check(libc.unshare(CLONE_NEWNET), "unshare")


def run(work: Callable[[], None]) -> None:
    """Have a child do something that changes it for good, and wait until it has ended.

    :param work: makes system calls only
    :raises OSError: what it has raised
    :raises RuntimeError: if it has failed otherwise
    """
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            work()
            status = 0
        except OSError as error:
            os.write(theirs, f"{error.errno or 0} {error.strerror}".encode())
        finally:
            os._exit(status)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        failure = answer.read()
    _, status = os.waitpid(pid, 0)
    if failure:
        number, _, message = failure.decode().partition(" ")
        raise OSError(int(number), message)
    if status:
        raise RuntimeError(f"the child process ended with status {status}")


#: Makes a namespace by system calls only; and its kind, as in /proc/PID/ns
Step = tuple[Callable[[], None], str]


class Making:
    """A child, as seen by its parent.

    :ivar pid: its process ID
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self._channel = channel
        self._made: list[int] = []

    def next(self) -> int:
        """Have the child make its next namespace.

        :returns: a descriptor of the namespace, closed after the block
        :raises OSError: if it cannot be made
        """
        self._channel.send(b"\0")
        answer, fds, _, _ = socket.recv_fds(self._channel, 1024, 1)
        if not fds:
            error, _, message = answer.decode().partition(" ")
            raise OSError(int(error or 0), message or "no namespace was made")
        self._made += fds
        return fds[0]

    def close(self) -> None:
        for fd in self._made:
            os.close(fd)
        # Another child may hold a copy of this end: closing is not enough.
        with contextlib.suppress(OSError):
            self._channel.send(_END)


@contextlib.contextmanager
def making(*steps: Step) -> Iterator[Making]:
    """Have a child make namespaces, one after the other, and end it after the block.

    A fork costs more than the namespaces, so one child makes all that are needed. The
    child also ends if this process is killed.
    """
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if not pid:
        _child(steps, theirs.fileno(), ours.fileno())
    try:
        with ours:
            theirs.close()
            made = Making(pid, ours)
            try:
                yield made
            finally:
                made.close()
    finally:
        os.waitpid(pid, 0)


def _child(steps: Sequence[Step], theirs: int, ours: int) -> None:
    """Make namespaces and send their descriptors; never return."""
    try:
        os.close(ours)
        parent = socket.socket(fileno=theirs)
        try:
            for make, kind in steps:
                if parent.recv(1) in (b"", _END):
                    break
                make()
                fd = array.array("i", [os.open(f"/proc/self/ns/{kind}", os.O_RDONLY)])
                parent.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        except OSError as error:
            parent.send(f"{error.errno or 0} {error.strerror}".encode())
        # Until the parent has used what is below /proc/PID
        while parent.recv(1) not in (b"", _END):
            pass
    finally:
        os._exit(0)
