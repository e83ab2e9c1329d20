# SPDX-License-Identifier: Apache-2.0
"""A TLS connection that its user sees as a plain socket.

The users of a hijacked connection need what an SSLSocket does not have: a half-close
that still lets them read, a duplicate of the descriptor, readiness that selectors can
see. They get one end of a socket pair instead. Between its other end and the network,
a thread encrypts and decrypts. It is the only one to see the connection's descriptor,
so nothing can be written beneath TLS.
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import ssl
import threading
import time

from docker_engine.streams.readiness import watch

LOG = logging.getLogger(__name__)

_CHUNK = 64 * 1024
_MAX_WAITING = 256 * 1024  # bytes, in each direction
# How often to look whether a user who has nothing more to say has left.
_POLL_SECONDS = 1
# For what a user has written before it closed its socket.
_FLUSH_SECONDS = 5


def wrap(
    wire: socket.socket, context: ssl.SSLContext, hostname: str, timeout: float | None
) -> socket.socket:
    """Return a plain socket for the data of a new TLS connection.

    :param wire: a connected socket, which this function takes over
    :param hostname: the name or address that the certificate must be valid for
    :param timeout: seconds for the whole handshake
    :raises OSError: if the handshake fails; ``wire`` is then closed
    """
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(wire.close)
        relay = _Relay(wire, context, hostname)
        relay.handshake(timeout)
        ours, relay.local = socket.socketpair()
        on_failure.callback(ours.close)
        on_failure.callback(relay.local.close)
        threading.Thread(
            target=relay.run, name="docker-tls-stream", daemon=True
        ).start()
        on_failure.pop_all()
    return ours


class _Relay:
    """Carries data between a local socket and a TLS connection.

    It ends when the engine has closed the connection and the user has everything, or
    when the user has closed its socket.
    """

    local: socket.socket

    def __init__(
        self, wire: socket.socket, context: ssl.SSLContext, hostname: str
    ) -> None:
        self._wire = wire
        # Not an SSLSocket: its unwrap() fails if data arrives meanwhile.
        self._received, self._encrypted = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._received, self._encrypted, server_hostname=hostname
        )
        self._to_encrypt = bytearray()
        self._to_wire = bytearray()
        self._to_local = bytearray()
        self._user_writes = True  # until it shuts its socket down for writing
        self._said_end = False
        self._wire_open = True

    def handshake(self, timeout: float | None) -> None:
        """Make the connection.

        :raises OSError: if the engine does not speak TLS, has no valid certificate, or
            does not answer in time
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if deadline is not None:
                    self._wire.settimeout(max(deadline - time.monotonic(), 0.001))
                self._wire.sendall(self._encrypted.read())
                if not (chunk := self._wire.recv(_CHUNK)):
                    raise ConnectionResetError(
                        "the engine closed the connection during the TLS handshake"
                    ) from None
                self._received.write(chunk)
        self._to_wire += self._encrypted.read()

    def run(self) -> None:
        self._wire.setblocking(False)
        self.local.setblocking(False)
        with self._wire, self.local, selectors.DefaultSelector() as selector:
            try:
                # With the end of the handshake, data may have come.
                self._decrypt()
                while self._wire_open or self._to_local:
                    self._step(selector)
            except _UserLeft:
                self._flush(selector)
            except OSError as error:
                LOG.debug("TLS stream ended: %s", error)

    def _step(self, selector: selectors.BaseSelector) -> None:
        """Wait until something can be read or written, and do it.

        :raises _UserLeft: if the user has closed its socket
        """
        waiting = len(self._to_encrypt) + len(self._to_wire)
        read_local = self._user_writes and waiting < _MAX_WAITING
        read_wire = self._wire_open and len(self._to_local) < _MAX_WAITING
        watch(selector, self.local, read_local, bool(self._to_local))
        watch(selector, self._wire, read_wire, bool(self._to_wire))
        # While the user is not read, only writing tells whether it is still there.
        ready = {
            key.fileobj: events
            for key, events in selector.select(None if read_local else _POLL_SECONDS)
        }
        if ready.get(self._wire, 0) & selectors.EVENT_READ:
            self._read_wire()
        if ready.get(self.local, 0) & selectors.EVENT_READ:
            self._read_local()
        if ready.get(self._wire, 0) & selectors.EVENT_WRITE:
            self._write_wire()
        try:
            # An empty message sends nothing, but fails like any other.
            sent = self.local.send(self._to_local[:_CHUNK])
        except BlockingIOError:
            sent = 0
        except OSError:
            raise _UserLeft from None
        del self._to_local[:sent]

    def _read_wire(self) -> None:
        try:
            chunk = self._wire.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            LOG.debug("TLS stream broke: %s", error)
            chunk = b""
        if chunk:
            self._received.write(chunk)
        else:
            self._received.write_eof()
        self._decrypt()
        # What waited for a message of the engine, and answers to its messages
        self._encrypt()

    def _decrypt(self) -> None:
        try:
            while chunk := self._tls.read(_CHUNK):
                self._to_local += chunk
        except ssl.SSLWantReadError:
            return
        except ssl.SSLZeroReturnError:
            pass
        except ssl.SSLError as error:
            LOG.debug("TLS stream broke: %s", error)
        self._wire_open = False

    def _read_local(self) -> None:
        try:
            chunk = self.local.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            chunk = b""
        self._to_encrypt += chunk
        self._user_writes = bool(chunk)
        self._encrypt()

    def _encrypt(self) -> None:
        # Either TLS waits for a message of the engine, or reading has failed as well.
        with contextlib.suppress(ssl.SSLError):
            while self._to_encrypt:
                del self._to_encrypt[: self._tls.write(self._to_encrypt)]
            if not (self._user_writes or self._said_end):
                # Half-close: the engine sees the end of the input, and still answers.
                # All data has been decrypted, so this finds none to fail on.
                self._said_end = True
                self._tls.unwrap()
        self._to_wire += self._encrypted.read()

    def _write_wire(self) -> None:
        try:
            del self._to_wire[: self._wire.send(self._to_wire[:_CHUNK])]
        except BlockingIOError:
            pass
        except OSError as error:
            LOG.debug("TLS stream broke: %s", error)
            self._to_wire.clear()
            self._wire_open = False

    def _flush(self, selector: selectors.BaseSelector) -> None:
        """Send what a user wrote before it left, and the end of the connection."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        # No more can come than the socket already has.
        while self._user_writes:
            self._read_local()
        watch(selector, self.local, False, False)
        while self._to_wire and (left := deadline - time.monotonic()) > 0:
            watch(selector, self._wire, False, True)
            selector.select(left)
            self._write_wire()


class _UserLeft(Exception):
    """The user of a stream has closed it."""
