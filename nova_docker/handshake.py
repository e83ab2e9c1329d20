# SPDX-License-Identifier: Apache-2.0
"""Connections to the console port that have not requested a console yet.

Anyone who reaches the port may be such a connection. One thread serves all of them, so
that they cost a descriptor and a kilobyte each, and they do not keep each other out:
a new connection displaces the oldest, and each has little time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import selectors
import socket
import time
from collections.abc import Iterator

MAX_WAITING = 64
SECONDS = 10  # for the whole request
_MAX_REQUEST = 1024  # bytes
# Between looks at the connections that wait already.
_ACCEPTED_AT_ONCE = 16

_NOTHING_IS_FREE = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_END = b"\r\n\r\n"


@dataclasses.dataclass
class Request:
    """A complete request.

    :ivar viewer: the connection, non-blocking; the receiver closes it
    :ivar header: the request, with the empty line at its end
    :ivar typed: what followed it: input for the server
    """

    viewer: socket.socket
    header: bytes
    typed: bytes


def requests(listener: socket.socket) -> Iterator[Request]:
    """Accept connections, and yield their requests until the listener is shut down.

    :raises OSError: if no descriptor or memory is free
    """
    waiting = _Waiting()
    listener.setblocking(False)
    with contextlib.closing(waiting):
        waiting.selector.register(listener, selectors.EVENT_READ)
        while True:
            # First the requests that have arrived: a flood of connections must not
            # displace them.
            ready = waiting.select()
            for viewer in ready - {listener}:
                yield from waiting.read(viewer)
            waiting.drop_late()
            if listener not in ready:
                continue
            for _ in range(_ACCEPTED_AT_ONCE):
                try:
                    viewer, _ = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        return
                    # The kernel reports here what happened to a connection meanwhile.
                    if error.errno not in _NOTHING_IS_FREE:
                        continue
                    raise
                yield from waiting.add(viewer)


class _Waiting:
    """The connections whose requests are incomplete."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        # Oldest first. All have the same time, so the oldest is the first to be late.
        self._deadlines: dict[socket.socket, float] = {}
        self._received: dict[socket.socket, bytes] = {}

    def close(self) -> None:
        for viewer in list(self._deadlines):
            self._drop(viewer)
        self.selector.close()

    def select(self) -> set[socket.socket]:
        """Wait for something to read, or for the next deadline."""
        deadline = next(iter(self._deadlines.values()), None)
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        return {key.fileobj for key, _ in self.selector.select(left)}  # type: ignore

    def add(self, viewer: socket.socket) -> Iterator[Request]:
        """Add a connection, at the expense of the oldest if there are too many."""
        if len(self._deadlines) >= MAX_WAITING:
            oldest = next(iter(self._deadlines))
            yield from self.read(oldest)
            self._drop(oldest)
        viewer.setblocking(False)
        self._deadlines[viewer] = time.monotonic() + SECONDS
        self._received[viewer] = b""
        self.selector.register(viewer, selectors.EVENT_READ)
        yield from self.read(viewer)

    def read(self, viewer: socket.socket) -> Iterator[Request]:
        """Read what has arrived, and yield the request if it is complete."""
        received = self._received[viewer]
        try:
            chunk = viewer.recv(_MAX_REQUEST - len(received))
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        received += chunk
        header, end, typed = received.partition(_END)
        if end:
            self._forget(viewer)
            yield Request(viewer, header + end, typed)
        elif not chunk or len(received) == _MAX_REQUEST:
            self._drop(viewer)
        else:
            self._received[viewer] = received

    def drop_late(self) -> None:
        now = time.monotonic()
        for viewer, deadline in list(self._deadlines.items()):
            if deadline > now:
                break
            self._drop(viewer)

    def _drop(self, viewer: socket.socket) -> None:
        if viewer in self._deadlines:
            self._forget(viewer)
            viewer.close()

    def _forget(self, viewer: socket.socket) -> None:
        self.selector.unregister(viewer)
        del self._deadlines[viewer], self._received[viewer]
