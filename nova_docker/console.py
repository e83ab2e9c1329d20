# SPDX-License-Identifier: Apache-2.0
"""Interactive serial consoles, to which nova-serialproxy connects.

One port serves all servers of this host. The proxy names the server with an HTTP
CONNECT to its ``internal_access_path`` (nova.console.websocketproxy). That path is
secret, so knowing it also proves that Nova has authorized the viewer.
"""

from __future__ import annotations

import collections
import contextlib
import hmac
import itertools
import re
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from nova import conf as nova_conf
from nova.console import serial
from nova.console.type import ConsoleSerial
from oslo_log import log as logging
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import terminal
from nova_docker.terminal import Terminal

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

MAX_VIEWERS = 16  # per server

_REQUEST_SECONDS = 10
_MAX_REQUEST = 1024  # bytes
_FLUSH_SECONDS = 5
_CHUNK = 64 * units.Ki
_MAX_OUTPUT = units.Mi  # waiting for one viewer
_MAX_INPUT = 64 * units.Ki  # waiting for the server
_INPUT_SECONDS = 60  # for the server to read any of it

# A terminal's report of its size: nova-serialproxy has no other way to pass it.
_SIZE = re.compile(rb"\x1b\[8;(\d{1,4});(\d{1,4})t")
_PARTIAL_SIZE = re.compile(rb"\x1b\[8(;\d{0,4}){0,2}\Z")


class SerialConsoles:
    """The serial consoles of this host's servers."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        # Paths are valid until nova-compute restarts.
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._viewers: collections.defaultdict[str, list[socket.socket]] = (
            collections.defaultdict(list)
        )

    def console(self, uuid: str) -> ConsoleSerial:
        """Return the address of a server's console, the same on each call.

        Nova compares the port before it admits a viewer. Serves
        ComputeDriver.get_serial_console.

        :raises SocketPortRangeExhaustedException: if no port is free
        """
        with self._lock:
            if self._listener is None:
                self._listener = _listen(CONF.serial_console.proxyclient_address)
                self._accepting = _start(self._accept, self._listener)
            host, port = self._listener.getsockname()[:2]
        return ConsoleSerial(host, port, internal_access_path=self._path(uuid))

    def stop(self) -> None:
        """End all sessions; the servers keep running."""
        with self._lock:
            listener, self._listener = self._listener, None
            viewers = list(itertools.chain(*self._viewers.values()))
        if listener and self._accepting:
            host, port = listener.getsockname()[:2]
            _hang_up(listener)
            self._accepting.join()
            serial.release_port(host, port)
        for viewer in viewers:
            _hang_up(viewer)

    def _path(self, uuid: str) -> str:
        return f"/{uuid}/{hmac.digest(self._key, uuid.encode(), 'sha256').hex()}"

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while listener is self._listener:
                try:
                    viewer, _ = listener.accept()
                except OSError:
                    if listener is self._listener:
                        LOG.exception("Failed to accept a serial console connection")
                        time.sleep(1)
                    continue
                _start(self._serve, viewer)

    def _serve(self, viewer: socket.socket) -> None:
        with viewer, contextlib.suppress(OSError):
            uuid = self._authorized(viewer)
            if uuid is None:
                viewer.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            viewer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            # Otherwise a proxy whose host has died would stay connected for ever.
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                with self._counted(uuid, viewer):
                    opened = terminal.open_terminal(self._client, uuid)
                    with contextlib.closing(opened):
                        _relay(viewer, opened)
            except terminal.Unavailable as error:
                viewer.sendall(f"{error}\r\n".encode())
            except OSError as error:
                LOG.debug("Serial console of server %s disconnected: %s", uuid, error)
            except Exception:
                LOG.exception("Serial console of server %s failed", uuid)
                # The reason may name the operator's files or addresses.
                viewer.sendall(b"Console failed; see the nova-compute log.\r\n")

    def _authorized(self, viewer: socket.socket) -> str | None:
        """Return the UUID of the server whose secret path the proxy requests."""
        viewer.settimeout(_REQUEST_SECONDS)
        request = b""
        # Byte by byte: whatever follows the request is input for the server.
        while not request.endswith(b"\r\n\r\n"):
            byte = viewer.recv(1)
            if not byte or len(request) == _MAX_REQUEST:
                return None
            request += byte
        method, _, rest = request.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        uuid = path[1:].partition("/")[0]
        secret = self._path(uuid).encode()
        if method == "CONNECT" and hmac.compare_digest(path.encode(), secret):
            return uuid
        return None

    @contextlib.contextmanager
    def _counted(self, uuid: str, viewer: socket.socket) -> Iterator[None]:
        """Count a viewer of a server during the block.

        :raises Unavailable: if the server has too many viewers already
        """
        with self._lock:
            if len(self._viewers[uuid]) >= MAX_VIEWERS:
                raise terminal.Unavailable("The console has too many viewers.")
            self._viewers[uuid].append(viewer)
        try:
            yield
        finally:
            with self._lock:
                self._viewers[uuid].remove(viewer)
                if not self._viewers[uuid]:
                    del self._viewers[uuid]


def _listen(host: str) -> socket.socket:
    while True:
        port = serial.acquire_port(host)
        # Nova only knows the ports of this process: another one may use it.
        with contextlib.suppress(OSError):
            return socket.create_server((host, port))


def _start(
    serve: Callable[[socket.socket], None], sock: socket.socket
) -> threading.Thread:
    thread = threading.Thread(
        target=serve, args=(sock,), name="docker-console", daemon=True
    )
    thread.start()
    return thread


def _hang_up(sock: socket.socket) -> None:
    """Wake the thread that waits for a socket; that thread closes it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class ViewerInput:
    """Separates what a viewer types from the sizes that its terminal reports."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, chunk: bytes) -> tuple[bytes, tuple[int, int] | None]:
        """Return the input for the server, and the last size in rows and columns.

        The possible beginning of a size is held back until the next chunk.
        """
        chunk = self._held + chunk
        sizes = _SIZE.findall(chunk)
        chunk = _SIZE.sub(b"", chunk)
        partial = _PARTIAL_SIZE.search(chunk)
        end = partial.start() if partial else len(chunk)
        self._held = chunk[end:]
        size = (int(sizes[-1][0]), int(sizes[-1][1])) if sizes else None
        return chunk[:end], size


def _relay(viewer: socket.socket, opened: Terminal) -> None:
    """Carry bytes both ways until either side closes.

    If a viewer does not keep up, a shared terminal drops output for it, so that the
    server's process and other viewers need not wait. A shell waits for its viewer.
    """
    stream = opened.stream
    viewer_input = ViewerInput()
    to_viewer = bytearray(terminal.ASK_SIZE)
    to_server = bytearray()
    viewer.setblocking(False)
    stream.setblocking(False)
    with selectors.DefaultSelector() as selector:
        while True:
            read_stream = opened.shared or len(to_viewer) < _MAX_OUTPUT
            read_viewer = len(to_server) < _MAX_INPUT
            _watch(selector, viewer, read_viewer, bool(to_viewer))
            _watch(selector, stream, read_stream, bool(to_server))
            # While the viewer is not read, its end would go unnoticed.
            ready = {
                key.fileobj: events
                for key, events in selector.select(
                    None if read_viewer else _INPUT_SECONDS
                )
            }
            if not ready:
                return
            if ready.get(stream, 0) & selectors.EVENT_READ:
                chunk = _receive(stream)
                if chunk == b"":
                    break
                if len(to_viewer) < _MAX_OUTPUT:
                    to_viewer += chunk or b""
            if ready.get(viewer, 0) & selectors.EVENT_READ:
                chunk = _receive(viewer)
                if chunk == b"":
                    return
                typed, size = viewer_input.take(chunk or b"")
                to_server += typed
                if size:
                    _resize(opened, *size)
            if ready.get(viewer, 0) & selectors.EVENT_WRITE:
                del to_viewer[: _send(viewer, to_viewer)]
            if ready.get(stream, 0) & selectors.EVENT_WRITE:
                del to_server[: _send(stream, to_server)]
    viewer.settimeout(_FLUSH_SECONDS)
    viewer.sendall(to_viewer)


def _watch(
    selector: selectors.BaseSelector, sock: socket.socket, read: bool, write: bool
) -> None:
    events = read * selectors.EVENT_READ | write * selectors.EVENT_WRITE
    if sock in selector.get_map():
        selector.unregister(sock)
    if events:
        selector.register(sock, events)


def _receive(sock: socket.socket) -> bytes | None:
    """Return what a socket has received: None for nothing yet, empty at its end."""
    try:
        return sock.recv(_CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: socket.socket, waiting: bytearray) -> int:
    """Send the beginning of ``waiting``, and return how many bytes were sent."""
    try:
        return sock.send(waiting[:_CHUNK])
    except BlockingIOError:
        return 0


def _resize(opened: Terminal, rows: int, columns: int) -> None:
    # A terminal of unknown size reports 0. A size that the engine rejects is no reason
    # to end the session.
    if rows and columns:
        with contextlib.suppress(errors.DockerError):
            opened.resize(rows, columns)
