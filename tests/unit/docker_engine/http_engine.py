# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server that stands in for an engine.

How engines behave is in tests/contract. This is for what tests cannot ask of a real
engine: lost connections, silence, partial responses, certificates.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import queue
import socket
import socketserver
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from urllib import parse

TIMEOUT = 10  # seconds, for what should take less than one


@dataclasses.dataclass
class Request:
    call: str
    version: str | None
    query: dict[str, str]
    headers: Any
    body: Any = None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def handle_call(self) -> None:
        url = parse.urlsplit(self.path)
        version, path = None, url.path
        if path.startswith("/v1."):
            version, _, path = path[2:].partition("/")
            path = f"/{path}"
        request = Request(
            f"{self.command} {path}",
            version,
            dict(parse.parse_qsl(url.query)),
            self.headers,
        )
        self.server.requests.append(request)
        if length := int(self.headers.get("Content-Length") or 0):
            request.body = json.loads(self.rfile.read(length))
        self.server.answers.get(request.call, Handler.no_content)(self)

    do_GET = do_HEAD = do_POST = do_DELETE = handle_call

    def no_content(self) -> None:
        self.answer(204)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, chunks: Iterable[bytes], end: bool = True) -> None:
        """Send a chunked response; without an end the connection is lost."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.drop()

    def upload(self) -> Iterator[bytes]:
        """Yield the chunks of the request's body.

        :raises EOFError: if it is broken off
        """
        while line := self.rfile.readline():
            size = int(line, 16)
            chunk = self.rfile.read(size + 2)[:-2]
            if not size:
                return
            yield chunk
        raise EOFError

    def drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""


class Engine(socketserver.ThreadingTCPServer):
    """``answers`` has the function that answers each call; without one it gets 204."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, address: Any = ("127.0.0.1", 0)) -> None:
        if isinstance(address, str):
            self.address_family = socket.AF_UNIX
        super().__init__(address, Handler)
        self.requests: list[Request] = []
        self.connections = 0
        self.closed: queue.Queue[None] = queue.Queue()
        self.answers: dict[str, Callable[[Handler], None]] = {
            "GET /version": answer(ApiVersion="1.41", MinAPIVersion="1.12")
        }
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        if self.address_family == socket.AF_UNIX:
            return f"unix://{self.server_address}"
        return f"tcp://127.0.0.1:{self.server_address[1]}"

    @property
    def calls(self) -> list[str]:
        """The calls so far, without the version negotiation."""
        return [r.call for r in self.requests if r.call != "GET /version"]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        super().close_request(request)
        self.closed.put(None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: connections break on purpose here."""


def answer(*body: Any, **values: Any) -> Callable[[Handler], None]:
    """Return a function that answers with JSON: a value, or an object."""
    content = json.dumps(body[0] if body else values).encode()
    return lambda handler: handler.answer(200, content)


@contextlib.contextmanager
def serving(*arguments: Any) -> Iterator[Engine]:
    engine = Engine(*arguments)
    try:
        yield engine
    finally:
        engine.shutdown()
        engine.server_close()


class Follower:
    """Reads a stream in a thread and records its items, then how it ended."""

    def __init__(self, stream: Iterable[Any]) -> None:
        self.got: queue.Queue[Any] = queue.Queue()
        self._stream = stream
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        try:
            for event in self._stream:
                self.got.put(event)
        except Exception as error:
            self.got.put(error)
        else:
            self.got.put("end")

    def next(self) -> Any:
        return self.got.get(timeout=TIMEOUT)


LABELS = {"label": ["a", "b=c"]}

FILTERS = {"filters": json.dumps(LABELS)}


def lose(times: int, then: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Return a function that drops some calls without an answer before it responds."""
    left = itertools.chain([Handler.drop] * times, itertools.repeat(then))
    return lambda handler: next(left)(handler)
