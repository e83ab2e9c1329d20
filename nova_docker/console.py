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
from collections.abc import Mapping
from typing import Any

from nova import conf as nova_conf
from nova.console import serial
from nova.console.type import ConsoleSerial
from oslo_log import log as logging
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.streams.readiness import watch
from nova_docker import handshake
from nova_docker import terminal
from nova_docker.terminal import Terminal

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

MAX_VIEWERS = 16  # per server
MAX_SESSIONS = 128  # on this host
# Threads of sessions, with those that were ended and still wait for the engine.
_MAX_THREADS = 2 * MAX_SESSIONS

_FLUSH_SECONDS = 5
_MAX_CHUNK = 256 * units.Ki  # of output at once
_MAX_TYPED = 64 * units.Ki  # of input at once
_MAX_OUTPUT = units.Mi  # waiting for one viewer
_MAX_INPUT = 64 * units.Ki  # waiting for the server
_INPUT_SECONDS = 60  # for the server to read any of it
# Between two looks at a session, and after a change of its size: neither a flood of
# output nor one of input keeps nova-compute or the engine busy.
_PAUSE_SECONDS = 0.01
_RESIZE_PAUSE_SECONDS = 0.1

# Connections that the kernel accepts while nova-compute is busy
_BACKLOG = 1024

_ACCEPTED = "HTTP/1.1 200 OK\r\n\r\n"
_HOST_IS_FULL = "Too many consoles are open on this host."

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
        # The viewers of each server, oldest first
        self._viewers: collections.defaultdict[str, list[socket.socket]] = (
            collections.defaultdict(list)
        )
        self._threads = 0

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
        if listener and self._accepting:
            host, port = listener.getsockname()[:2]
            _hang_up(listener)
            self._accepting.join()
            serial.release_port(host, port)
        with self._lock:
            viewers = list(itertools.chain(*self._viewers.values()))
        for viewer in viewers:
            _hang_up(viewer)

    def _path(self, uuid: str) -> str:
        return f"/{uuid}/{hmac.digest(self._key, uuid.encode(), 'sha256').hex()}"

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while listener is self._listener:
                try:
                    for request in handshake.requests(listener):
                        self._answer(request)
                except Exception:
                    # No thread, memory or descriptor is free: end those that wait.
                    LOG.exception("Failed to accept a serial console connection")
                    time.sleep(1)

    def _answer(self, request: handshake.Request) -> None:
        """Start a session if the request is authorized and there is room for it."""
        uuid = self._authorized(request.header)
        viewer = request.viewer
        if uuid is None:
            _refuse(viewer, "HTTP/1.1 403 Forbidden\r\n\r\n")
            return
        with self._lock:
            refusal = self._make_room(uuid)
            if refusal is None:
                self._viewers[uuid].append(viewer)
                self._threads += 1
        if refusal:
            _refuse(viewer, f"{_ACCEPTED}{refusal}\r\n")
            return
        try:
            _start(self._serve, uuid, viewer, request.typed)
        except BaseException:
            self._forget(uuid, viewer)
            viewer.close()
            raise

    def _authorized(self, header: bytes) -> str | None:
        """Return the UUID of the server whose secret path the proxy requests."""
        method, _, rest = header.decode("latin-1").partition(" ")
        path = rest.partition(" ")[0]
        uuid = path[1:].partition("/")[0]
        secret = self._path(uuid).encode()
        if method == "CONNECT" and hmac.compare_digest(path.encode(), secret):
            return uuid
        return None

    def _make_room(self, uuid: str) -> str | None:
        """Return why there is no room for a viewer, after making some if possible.

        The caller holds the lock.
        """
        if len(self._viewers.get(uuid, ())) >= MAX_VIEWERS:
            return "The console has too many viewers."
        if self._threads >= _MAX_THREADS:
            return _HOST_IS_FULL
        counts = {server: len(viewers) for server, viewers in self._viewers.items()}
        if sum(counts.values()) >= MAX_SESSIONS:
            victim = displaced(counts, uuid)
            if victim is None:
                return _HOST_IS_FULL
            # Its thread ends as soon as it looks at its viewer again.
            _hang_up(self._viewers[victim].pop(0))
        return None

    def _forget(self, uuid: str, viewer: socket.socket) -> None:
        with self._lock:
            self._threads -= 1
            viewers = self._viewers.get(uuid, [])
            # Unless it was displaced
            if viewer in viewers:
                viewers.remove(viewer)
            if not viewers:
                self._viewers.pop(uuid, None)

    def _serve(self, uuid: str, viewer: socket.socket, typed: bytes) -> None:
        try:
            with viewer, contextlib.suppress(OSError):
                viewer.settimeout(_FLUSH_SECONDS)
                viewer.sendall(_ACCEPTED.encode())
                # Otherwise a proxy whose host has died would stay connected for ever.
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                self._open(uuid, viewer, typed)
        finally:
            self._forget(uuid, viewer)

    def _open(self, uuid: str, viewer: socket.socket, typed: bytes) -> None:
        try:
            with contextlib.closing(
                terminal.open_terminal(self._client, uuid)
            ) as opened:
                _relay(viewer, opened, typed)
        except terminal.Unavailable as error:
            viewer.sendall(f"{error}\r\n".encode())
        except OSError as error:
            LOG.debug("Serial console of server %s disconnected: %s", uuid, error)
        except Exception:
            LOG.exception("Serial console of server %s failed", uuid)
            # The reason may name the operator's files or addresses.
            viewer.sendall(b"Console failed; see the nova-compute log.\r\n")


def displaced(viewers: Mapping[str, int], uuid: str) -> str | None:
    """Return the server that gives up a viewer for one of another server, if any.

    Sessions are shared fairly: a server whose tenant opens many consoles cannot lock
    the others out.

    :param viewers: numbers of viewers by server
    :param uuid: the server that gets one more
    """
    busiest = max(viewers, key=lambda server: viewers[server])
    return busiest if viewers[busiest] > viewers.get(uuid, 0) + 1 else None


def _listen(host: str) -> socket.socket:
    while True:
        port = serial.acquire_port(host)
        # Nova only knows the ports of this process: another one may use it.
        with contextlib.suppress(OSError):
            return socket.create_server((host, port), backlog=_BACKLOG)


def _start(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(
        target=target, args=arguments, name="docker-console", daemon=True
    )
    thread.start()
    return thread


def _refuse(viewer: socket.socket, message: str) -> None:
    """Close a connection with a message, which fits into its buffer."""
    with viewer, contextlib.suppress(OSError):
        viewer.send(message.encode())


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


def _relay(viewer: socket.socket, opened: Terminal, typed: bytes) -> None:
    """Carry bytes both ways until either side closes.

    If a viewer does not keep up, a shared terminal drops output for it, so that the
    server's process and other viewers need not wait. A shell waits for its viewer.

    :param typed: what the viewer has typed already
    """
    stream = opened.stream
    viewer_input = ViewerInput()
    to_viewer = bytearray(terminal.ASK_SIZE)
    to_server = bytearray()
    shown_size = None
    viewer.setblocking(False)
    stream.setblocking(False)
    with selectors.DefaultSelector() as selector:
        while True:
            if typed:
                entered, size = viewer_input.take(typed)
                to_server += entered
                typed = b""
                if size and size != shown_size:
                    shown_size = size
                    _resize(opened, *size)
                    time.sleep(_RESIZE_PAUSE_SECONDS)
            read_stream = opened.shared or len(to_viewer) < _MAX_OUTPUT
            read_viewer = len(to_server) < _MAX_INPUT
            watch(selector, viewer, read_viewer, bool(to_viewer))
            watch(selector, stream, read_stream, bool(to_server))
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
                chunk = _receive(stream, _MAX_CHUNK)
                if chunk == b"":
                    break
                if len(to_viewer) < _MAX_OUTPUT:
                    to_viewer += chunk or b""
            if ready.get(viewer, 0) & selectors.EVENT_READ:
                chunk = _receive(viewer, _MAX_TYPED)
                if chunk == b"":
                    return
                typed = chunk or b""
            if ready.get(viewer, 0) & selectors.EVENT_WRITE:
                del to_viewer[: _send(viewer, to_viewer)]
            if ready.get(stream, 0) & selectors.EVENT_WRITE:
                del to_server[: _send(stream, to_server)]
            time.sleep(_PAUSE_SECONDS)
    viewer.settimeout(_FLUSH_SECONDS)
    viewer.sendall(to_viewer)


def _receive(sock: socket.socket, most: int) -> bytes | None:
    """Return what a socket has received: None for nothing yet, empty at its end."""
    try:
        return sock.recv(most)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _send(sock: socket.socket, waiting: bytearray) -> int:
    """Send the beginning of ``waiting``, and return how many bytes were sent."""
    try:
        return sock.send(waiting[:_MAX_CHUNK])
    except BlockingIOError:
        return 0


def _resize(opened: Terminal, rows: int, columns: int) -> None:
    # A terminal of unknown size reports 0. A size that the engine rejects is no reason
    # to end the session.
    if rows and columns:
        with contextlib.suppress(errors.DockerError):
            opened.resize(rows, columns)
