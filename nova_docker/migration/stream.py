# SPDX-License-Identifier: Apache-2.0
"""Messages and data between two hosts, over whatever connects them.

A message is one line of JSON. Data comes in pieces with their lengths; behind the last
one is a hash of all of them. So data that has been cut off is never taken for complete.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections.abc import Callable
from typing import Any
from typing import BinaryIO

from docker_engine.printable import printable

_LENGTH = struct.Struct(">I")
_PIECE = 1 << 20  # bytes
_MAX_MESSAGE = 4 << 20  # bytes: a config drive may be in one


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
        self._reader: BinaryIO = stream.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()
        self._stream.close()

    def tell(self, **message: Any) -> None:
        """Send a message.

        :raises OSError: if the connection has ended
        """
        self._stream.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """Wait for a message.

        :raises Refused: if it has ``error``
        :raises Broken: if there is none
        :raises OSError: if the connection fails
        """
        line = self._reader.readline(_MAX_MESSAGE)
        if not line.endswith(b"\n"):
            raise Broken("the connection has ended")
        try:
            message = json.loads(line)
        except ValueError:
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
        while piece := source.recv(_PIECE):
            hashed.update(piece)
            sent += len(piece)
            self._stream.sendall(_LENGTH.pack(len(piece)))
            self._stream.sendall(piece)
        check()
        self._stream.sendall(_LENGTH.pack(0) + hashed.digest())
        return sent

    def receive_data(self, target: socket.socket) -> int:
        """Write what :meth:`send_data` of the other side sends to a socket.

        :returns: the number of bytes
        :raises Broken: if it is not complete
        :raises OSError: if it cannot be written
        """
        hashed, received = hashlib.sha256(), 0
        while length := _LENGTH.unpack(self._exactly(_LENGTH.size))[0]:
            if length > _PIECE:
                raise Broken(f"a piece of {length} bytes")
            piece = self._exactly(length)
            hashed.update(piece)
            received += length
            target.sendall(piece)
        if self._exactly(hashed.digest_size) != hashed.digest():
            raise Broken("the data does not have the hash that was sent with it")
        return received

    def _exactly(self, length: int) -> bytes:
        found = self._reader.read(length)
        if len(found) != length:
            raise Broken("the connection has ended")
        return found
