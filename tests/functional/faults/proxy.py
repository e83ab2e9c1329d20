# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of an engine's socket that makes one chosen call fail.

The driver's client announces each call to the proxy before it connects, so that even
the connection itself can be refused. Each connection carries one request.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import json
import pathlib
import re
import socket
import threading
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from docker_engine.client import DockerClient

# Seconds that the client waits for a call that hangs: the engine must have acted.
HANG_SECONDS = 1.0
# Seconds for which an engine is gone, if the verb does not end earlier
GONE_SECONDS = 5.0

EVENTS = "GET /events"

_BUFFER = 65536


class Fault(enum.Enum):
    """How a call fails; the value is the heading of its column in the table."""

    REFUSED = "refused"
    GONE = "engine gone"
    RESET = "reset before"
    RESET_AFTER = "reset after"
    ERROR = "500"
    CONFLICT = "409"
    HANG = "hang"
    LATE = "late"
    TRUNCATED = "truncated"


def template(method: str, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return the name of an endpoint: a call without its ids.

    :param path: without the API version
    """
    kind, _, rest = path.strip("/").partition("/")
    if kind in ("containers", "exec", "images") and rest not in _WORDS:
        if kind == "images":
            action = re.search(r"/(json|get|tag)$", rest)
            path = "/images/{name}" + (action[0] if action else "")
        else:
            _, *parts = rest.split("/")
            parts[1:] = ["{name}"] * len(parts[1:])
            path = "/".join([f"/{kind}/{{id}}", *parts])
    if "checkpoint" in (query or {}):
        path += "?checkpoint"
    return f"{method} {path}"


# What follows the kind in a path and is not the name of an object
_WORDS = ("json", "create", "load")


class Proxy:
    """Forwards calls from :attr:`client` to an engine.

    :ivar client: the client whose calls can fail
    :ivar calls: the endpoints of all calls since :meth:`arm`, in order
    :ivar hit: whether the chosen call has been made
    """

    def __init__(self, engine_socket: str, directory: pathlib.Path) -> None:
        self._engine_socket = engine_socket
        self._path = directory / "proxy.sock"
        self._lock = threading.RLock()
        self._connections: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        self._target: tuple[str, int, Fault] | None = None
        # The endpoint whose next request fails, and how
        self._failing: tuple[str, Fault] | None = None
        self._back: threading.Timer | None = None
        # Set when the engine acts on a late call, and the threads that wait for it
        self._late = threading.Event()
        self._acting: list[threading.Thread] = []
        self.calls: list[str] = []
        self.hit = False
        self.client = DockerClient(f"unix://{self._path}")
        transport: Any = self.client._transport
        self._request = transport.request
        transport.request = self._announced

    def start(self) -> None:
        with self._lock:
            if self._listener is None:
                self._path.unlink(missing_ok=True)
                self._listener = socket.socket(socket.AF_UNIX)
                self._listener.bind(str(self._path))
                self._listener.listen(50)
                _thread(self._accept, self._listener)

    def stop(self) -> None:
        """Refuse connections from now on, and break off those that exist."""
        self._refuse()
        with self._lock:
            for connection in self._connections:
                _shut(connection)

    def arm(self, endpoint: str = "", number: int = 0, fault: Fault = Fault.RESET):
        """Make the call of an endpoint with this number (from 1) fail, once.

        Counting starts here. Without arguments, no call fails.
        """
        with self._lock:
            self.calls = []
            self.hit = False
            self._failing = None
            self._target = (endpoint, number, fault) if endpoint else None

    def disarm(self) -> None:
        """Let all calls succeed from now on, even if the engine was gone.

        The engine acts on a call that is late before this returns.
        """
        self.arm()
        if self._back:
            self._back.cancel()
        self.start()
        self._late.set()
        while self._acting:
            self._acting.pop().join()
        self._late.clear()

    # The client's side

    def _announced(
        self, method: str, path: str, query: Any = None, **options: Any
    ) -> Any:
        endpoint = template(method, path, query)
        with self._lock:
            self.calls.append(endpoint)
            fault = None
            if self._target and not self.hit:
                wanted, number, kind = self._target
                if endpoint == wanted and self.calls.count(endpoint) == number:
                    fault, self.hit = kind, True
        if fault is Fault.GONE:
            self.stop()
            self._back = threading.Timer(GONE_SECONDS, self.start)
            self._back.start()
        elif fault is Fault.REFUSED:
            self._refuse()
        elif fault:
            self._failing = endpoint, fault
        if fault in (Fault.HANG, Fault.LATE):
            grace = int((query or {}).get("t", 0))
            options["timeout"] = (5, HANG_SECONDS + grace)
        try:
            return self._request(method, path, query, **options)
        finally:
            if fault is Fault.REFUSED:
                self.start()

    # The engine's side

    def _refuse(self) -> None:
        with self._lock:
            if self._listener:
                _shut(self._listener)
                self._listener.close()
                self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self._lock:
                    self._connections.add(connection)
                _thread(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        engine = socket.socket(socket.AF_UNIX)
        with connection, engine, contextlib.suppress(OSError):
            head, rest = _head(connection)
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            endpoint, fault = self._fault_of(method, target)
            if fault is Fault.RESET:
                return
            engine.connect(self._engine_socket)
            if fault in (Fault.ERROR, Fault.CONFLICT):
                collections.deque(_body(head, rest, connection), maxlen=0)
                connection.sendall(_refusal(fault))
                return
            body: Iterable[bytes] = _body(head, rest, connection)
            if fault is Fault.LATE:
                body = list(body)
                with self._lock:
                    self._acting.append(threading.current_thread())
                self._late.wait()
            engine.sendall(_one_request(head))
            for piece in body:
                engine.sendall(piece)
            if fault:
                _fail(fault, endpoint, connection, engine)
            elif b"\r\nupgrade:" in head.lower():
                _thread(_copy, connection, engine)
                _copy(engine, connection)
            else:
                _thread(_follow, connection, engine)
                _copy(engine, connection)
        with self._lock:
            self._connections.discard(connection)

    def _fault_of(self, method: str, target: str) -> tuple[str, Fault | None]:
        """Return a request's endpoint, and how it fails."""
        path, _, query = target.partition("?")
        path = re.sub(r"^/v[0-9.]+/", "/", path)
        named = {"checkpoint": ""} if "checkpoint=" in query else {}
        endpoint = template(method, path, named)
        with self._lock:
            if not self._failing or self._failing[0] != endpoint:
                return endpoint, None
            _, fault = self._failing
            self._failing = None
            return endpoint, fault


@contextlib.contextmanager
def running(engine_socket: str, directory: pathlib.Path) -> Iterator[Proxy]:
    proxy = Proxy(engine_socket, directory)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()


def _fail(
    fault: Fault, endpoint: str, connection: socket.socket, engine: socket.socket
) -> None:
    """Break an answer that the engine gives."""
    answer, rest = _head(engine)
    if fault is Fault.RESET_AFTER:
        return
    endless = _endless(answer, endpoint)
    while not endless and (received := engine.recv(_BUFFER)):
        rest += received
    if fault is Fault.LATE:
        return
    if fault is Fault.HANG:
        while connection.recv(_BUFFER):
            pass
    elif endless:
        connection.sendall(answer)
    elif rest:
        connection.sendall(answer + rest[: len(rest) // 2])
    else:
        connection.sendall(answer[: len(answer) // 2])


def _endless(answer: bytes, endpoint: str) -> bool:
    """Return whether an answer is the start of a stream: a terminal's, or events."""
    return answer.startswith(b"HTTP/1.1 101") or endpoint == EVENTS


def _refusal(fault: Fault) -> bytes:
    body = json.dumps({"message": "the tests let this call fail"}).encode()
    return (
        f"HTTP/1.1 {fault.value} Refused\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def _head(source: socket.socket) -> tuple[bytes, bytes]:
    """Return the head of a message, with its empty line, and what has followed it.

    :raises ConnectionError: if it breaks off
    """
    received = b""
    while b"\r\n\r\n" not in received:
        piece = source.recv(_BUFFER)
        if not piece:
            raise ConnectionError
        received += piece
    head, end, rest = received.partition(b"\r\n\r\n")
    return head + end, rest


def _one_request(head: bytes) -> bytes:
    """Return a request's head, which asks the engine to close the connection."""
    if b"\r\nupgrade:" in head.lower():
        return head
    head = re.sub(rb"(?i)\r\nconnection:[^\r]*", b"", head)
    return head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def _body(head: bytes, rest: bytes, source: socket.socket) -> Iterator[bytes]:
    """Yield a request's body as it arrives."""
    if b"transfer-encoding: chunked" in head.lower():
        end = b"\r\n"
        while True:
            if rest:
                yield rest
                end = (end + rest)[-7:]
            if end == b"\r\n0\r\n\r\n":
                return
            rest = source.recv(_BUFFER)
            if not rest:
                raise ConnectionError
    found = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    missing = int(found[1]) if found else 0
    while missing > 0:
        rest = rest or source.recv(_BUFFER)
        if not rest:
            raise ConnectionError
        yield rest
        missing -= len(rest)
        rest = b""


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while received := source.recv(_BUFFER):
            target.sendall(received)
        target.shutdown(socket.SHUT_WR)


def _follow(connection: socket.socket, engine: socket.socket) -> None:
    """End the engine's side when the client has closed its own."""
    with contextlib.suppress(OSError):
        while connection.recv(_BUFFER):
            pass
    _shut(engine)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _thread(function: Any, *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()
