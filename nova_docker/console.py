# SPDX-License-Identifier: Apache-2.0
"""Interactive serial consoles, as nova-serialproxy connects to them.

One port serves all servers of this host. The proxy says which server it is for,
and that Nova has let its user in, by a path that nobody else knows: Nova's
``internal_access_path``, by HTTP's CONNECT (nova.console.websocketproxy).
"""

from __future__ import annotations

import collections
import contextlib
import hmac
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

MAX_VIEWERS = 16  # of one server

_GREETING_SECONDS = 10
_MAX_GREETING = 1024
_FLUSH_SECONDS = 5
_CHUNK = 64 * units.Ki
_MAX_SHOWN = units.Mi  # waiting for one viewer
_MAX_TYPED = 64 * units.Ki
_PATIENCE = 60  # seconds for a server to take what is typed

# How a terminal tells its size: there is no other way through nova-serialproxy.
_SIZE = re.compile(rb"\x1b\[8;(\d{1,4});(\d{1,4})t")
_SIZE_BEGUN = re.compile(rb"\x1b\[8(;\d{0,4}){0,2}\Z")


class SerialConsoles:
    """The consoles of this host's servers."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        # A nova-compute that is started anew knows no console of before.
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._accepting: threading.Thread | None = None
        self._viewers: collections.defaultdict[str, list[socket.socket]] = (
            collections.defaultdict(list)
        )

    def console(self, uuid: str) -> ConsoleSerial:
        """Where a server's console is: the same at each call.

        :raises SocketPortRangeExhaustedException: when there is no port left
        """
        with self._lock:
            if self._listener is None:
                self._listener = _listen(CONF.serial_console.proxyclient_address)
                self._accepting = _start(self._accept, self._listener)
            host, port = self._listener.getsockname()[:2]
        return ConsoleSerial(host, port, internal_access_path=self._path(uuid))

    def stop(self) -> None:
        """End all sessions; the servers go on."""
        with self._lock:
            listener, self._listener = self._listener, None
            viewers = [one for found in self._viewers.values() for one in found]
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
                        LOG.exception("Taking a connection to a serial console")
                        time.sleep(1)
                    continue
                _start(self._serve, viewer)

    def _serve(self, viewer: socket.socket) -> None:
        with viewer, contextlib.suppress(OSError):
            uuid = self._wanted(viewer)
            if uuid is None:
                viewer.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                return
            viewer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            # Nobody would tell of a proxy whose host is gone.
            viewer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            try:
                with self._seat(uuid, viewer):
                    shown = terminal.open_terminal(self._client, uuid)
                    with contextlib.closing(shown):
                        _relay(viewer, shown)
            except terminal.Unavailable as error:
                viewer.sendall(f"{error}\r\n".encode())
            except OSError as error:
                LOG.debug("A serial console of server %s broke off: %s", uuid, error)
            except Exception:
                LOG.exception("The serial console of server %s failed", uuid)
                viewer.sendall(b"The console does not work.\r\n")

    def _wanted(self, viewer: socket.socket) -> str | None:
        """The uuid of the server whose path the proxy knows, if it does."""
        viewer.settimeout(_GREETING_SECONDS)
        greeting = b""
        # What follows is for the server already.
        while not greeting.endswith(b"\r\n\r\n"):
            byte = viewer.recv(1)
            if not byte or len(greeting) == _MAX_GREETING:
                return None
            greeting += byte
        verb, _, rest = greeting.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        uuid = path[1:].partition("/")[0]
        known = self._path(uuid).encode()
        if verb == "CONNECT" and hmac.compare_digest(path.encode(), known):
            return uuid
        return None

    @contextlib.contextmanager
    def _seat(self, uuid: str, viewer: socket.socket) -> Iterator[None]:
        """Count a viewer of a server in, for as long as this is entered."""
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
        # Another process may have taken it since.
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
    """Wake the thread that waits for a socket, which closes it."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


class Typed:
    """What a viewer types, less the sizes that its terminal tells."""

    def __init__(self) -> None:
        self._held = b""

    def take(self, chunk: bytes) -> tuple[bytes, tuple[int, int] | None]:
        """What is for the server, and the last size in rows and columns, if any.

        What may be the beginning of a size waits for the next chunk.
        """
        chunk = self._held + chunk
        sizes = _SIZE.findall(chunk)
        chunk = _SIZE.sub(b"", chunk)
        begun = _SIZE_BEGUN.search(chunk)
        end = begun.start() if begun else len(chunk)
        self._held = chunk[end:]
        size = (int(sizes[-1][0]), int(sizes[-1][1])) if sizes else None
        return chunk[:end], size


def _relay(viewer: socket.socket, shown: Terminal) -> None:
    """Carry bytes both ways until one end closes.

    A viewer who does not keep up misses what a terminal shows that others share,
    for whose process would wait otherwise; a shell waits for its only viewer.
    """
    stream = shown.stream
    keys = Typed()
    to_viewer = bytearray(terminal.ASK_SIZE)
    to_server = bytearray()
    viewer.setblocking(False)
    stream.setblocking(False)
    with selectors.DefaultSelector() as selector:
        while True:
            shows = shown.shared or len(to_viewer) < _MAX_SHOWN
            types = len(to_server) < _MAX_TYPED
            _watch(selector, viewer, types, bool(to_viewer))
            _watch(selector, stream, shows, bool(to_server))
            # Who must not type shows no end either.
            ready = {
                key.fileobj: events
                for key, events in selector.select(None if types else _PATIENCE)
            }
            if not ready:
                return
            if ready.get(stream, 0) & selectors.EVENT_READ:
                chunk = _receive(stream)
                if chunk == b"":
                    break
                if len(to_viewer) < _MAX_SHOWN:
                    to_viewer += chunk or b""
            if ready.get(viewer, 0) & selectors.EVENT_READ:
                chunk = _receive(viewer)
                if chunk == b"":
                    return
                typed, size = keys.take(chunk or b"")
                to_server += typed
                if size:
                    _resize(shown, *size)
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
    """What is there; None for nothing yet, and empty at the end."""
    try:
        return sock.recv(_CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: socket.socket, waiting: bytearray) -> int:
    """How much of it was taken."""
    try:
        return sock.send(waiting[:_CHUNK])
    except BlockingIOError:
        return 0


def _resize(shown: Terminal, rows: int, columns: int) -> None:
    # A size of 0 has no meaning, and one that the engine refuses does no harm.
    if rows and columns:
        with contextlib.suppress(errors.DockerError):
            shown.resize(rows, columns)
