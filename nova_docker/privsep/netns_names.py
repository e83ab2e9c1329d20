# SPDX-License-Identifier: Apache-2.0
"""Named network namespaces, and which one a thread is in.

The privileged daemons serve calls in threads. /proc/self and pyroute2's function for
creating a namespace refer to the main thread, and so to the host; nothing here does.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from pyroute2 import netns as pr2_netns

_DIRECTORY = "/run/netns"
_CURRENT = "/proc/thread-self/ns/net"


def current() -> contextlib.AbstractContextManager[int]:
    """Open the network namespace of the current thread."""
    return open_file(_CURRENT)


def give(name: str) -> None:
    """Give a name to the namespace of the current thread, taking it from any other."""
    with contextlib.suppress(FileNotFoundError):
        pr2_netns.remove(name)
    pr2_netns.attach(name, "thread-self")


@contextlib.contextmanager
def coming_back() -> Iterator[int]:
    """Let the current thread, and no other, enter namespaces until the block ends.

    :yields: a descriptor of the host's namespace
    """
    with current() as host_ns:
        try:
            yield host_ns
        finally:
            pr2_netns.setns(host_ns)


@contextlib.contextmanager
def open_file(path: str) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def inside(netns: str) -> Iterator[int]:
    """Enter a namespace with the current thread only.

    :yields: a descriptor of the namespace
    :raises FileNotFoundError: if it does not exist
    """
    with opened(netns) as found, coming_back() as host_ns:
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No namespace", netns)
        pr2_netns.setns(found)
        refuse_hosts(netns, host_ns)
        yield found


def refuse_hosts(netns: str, host_ns: int) -> None:
    """Check that the current thread has left the host's namespace."""
    if os.path.samestat(os.stat(_CURRENT), os.fstat(host_ns)):
        raise RuntimeError(
            f"Refusing to change {netns}: it is the host's own network namespace"
        )


@contextlib.contextmanager
def opened(netns: str) -> Iterator[int | None]:
    """Open a namespace by its name.

    :yields: a descriptor; None if it does not exist
    """
    path = os.path.join(_DIRECTORY, netns)
    with contextlib.ExitStack() as stack:
        fd = None
        with contextlib.suppress(FileNotFoundError):
            # The name is a file, to which the namespace is bound in a second step. A
            # daemon that is killed in between leaves the file, which nobody may open.
            if os.stat(path).st_dev == os.stat(_CURRENT).st_dev:
                fd = stack.enter_context(open_file(path))
        yield fd
