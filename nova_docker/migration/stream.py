# SPDX-License-Identifier: Apache-2.0
"""Messages and data between two hosts, over whatever connects them.

A message is one line of JSON. Data comes in pieces with their lengths; behind the last
one is a hash of all of them. So data that has been cut off is never taken for complete.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from docker_engine.printable import printable

_LENGTH = struct.Struct(">I")
_PIECE = 1 << 20  # bytes
_MAX_MESSAGE = 4 << 20  # bytes: a config drive may be in one

#: A message must be there, complete, after so many seconds.
MESSAGE_SECONDS = 60
#: Data may pause for so many seconds.
DATA_SECONDS = 300


class Broken(Exception):
    """The connection has ended too early, or the other side does not make sense."""


class Refused(Exception):
    """The other side has answered with an error, which is the message."""


class Channel:
    """One side of a connection.

    :param stream: a socket, which the channel closes
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._received = bytearray()

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()

    def abort(self) -> None:
        """End the connection, whatever another thread waits for."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def tell(self, **message: Any) -> None:
        """Send a message.

        :raises Broken: if it is too long
        :raises OSError: if the connection has ended
        """
        line = json.dumps(message).encode() + b"\n"
        if len(line) > _MAX_MESSAGE:
            raise Broken(f"a message of {len(line)} bytes; {_MAX_MESSAGE} are possible")
        self._send(line)

    def hear(self, seconds: float = MESSAGE_SECONDS) -> dict[str, Any]:
        """Wait for a message.

        :param seconds: how long
        :raises Refused: if it has ``error``
        :raises Broken: if there is none
        :raises OSError: if the connection fails
        """
        line = self._line(seconds)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            raise Broken(printable(f"not a message: {line[:80]!r}")) from None
        if not isinstance(message, dict):
            raise Broken("not a message")
        if "error" in message:
            raise Refused(printable(str(message["error"])))
        return message

    def send_data(
        self, source: socket.socket, check: Callable[[], object] = lambda: None
    ) -> int:
        """Send what can be read from a socket until its end.

        :param check: called at the end; if it raises, the other side does not take the
            data for complete
        :returns: the number of bytes
        :raises OSError: if the connection has ended
        """
        hashed, sent = hashlib.sha256(), 0
        source.settimeout(DATA_SECONDS)
        while piece := source.recv(_PIECE):
            hashed.update(piece)
            sent += len(piece)
            self._send(_LENGTH.pack(len(piece)))
            self._send(piece)
        check()
        self._send(_LENGTH.pack(0) + hashed.digest())
        return sent

    def receive_data(
        self,
        target: socket.socket,
        allow: Callable[[int], object] = lambda received: None,
        patience: float = 0,
    ) -> int:
        """Write what :meth:`send_data` of the other side sends to a socket.

        :param allow: called with the number of bytes so far, before they are written;
            what it raises ends the transfer
        :param patience: seconds that the other side may need before it begins
        :returns: the number of bytes
        :raises Broken: if it is not complete
        :raises OSError: if it cannot be written
        """
        hashed, received = hashlib.sha256(), 0
        target.settimeout(DATA_SECONDS)
        seconds = DATA_SECONDS + patience
        while length := _LENGTH.unpack(self._exactly(_LENGTH.size, seconds))[0]:
            seconds = DATA_SECONDS
            if length > _PIECE:
                raise Broken(f"a piece of {length} bytes")
            piece = self._exactly(length)
            hashed.update(piece)
            received += length
            allow(received)
            target.sendall(piece)
        if self._exactly(hashed.digest_size) != hashed.digest():
            raise Broken("the data does not have the hash that was sent with it")
        return received

    def _send(self, data: bytes) -> None:
        self._stream.settimeout(DATA_SECONDS)
        self._stream.sendall(data)

    def _line(self, seconds: float) -> bytes:
        deadline, searched = time.monotonic() + seconds, 0
        while (end := self._received.find(b"\n", searched)) < 0:
            searched = len(self._received)
            if searched >= _MAX_MESSAGE:
                raise Broken(f"a message of more than {_MAX_MESSAGE} bytes")
            self._receive(deadline)
        return self._taken(end + 1)

    def _exactly(self, length: int, seconds: float = DATA_SECONDS) -> bytes:
        deadline = time.monotonic() + seconds
        while len(self._received) < length:
            self._receive(deadline)
        return self._taken(length)

    def _receive(self, deadline: float) -> None:
        """Receive a part of what the other side sends.

        :param deadline: a slow other side does not move it
        """
        try:
            self._stream.settimeout(max(deadline - time.monotonic(), 0.001))
            part = self._stream.recv(_PIECE)
        except TimeoutError:
            raise Broken("the other side is silent") from None
        if not part:
            raise Broken("the connection has ended")
        self._received += part

    def _taken(self, length: int) -> bytes:
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken
