# SPDX-License-Identifier: Apache-2.0
"""The HTTP of the client, with a small server for an engine.

What an engine does is in tests/contract; here is what must not be left to an
engine's good will: lost connections, silence, half answers, certificates.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import http.server
import ipaddress
import itertools
import json
import os
import pathlib
import queue
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from urllib import parse

import pytest
import requests
import requests_unixsocket.adapters
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.transport import http as http_transport
from docker_engine.transport.tls import TLSConfig

ROOT = str(pathlib.Path(__file__).parents[3])
TIMEOUT = 10  # seconds, for what should not take one


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

    do_GET = do_POST = do_DELETE = handle_call

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
        """Answer chunk by chunk; without an end the connection is lost."""
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
        """The chunks of the request's body; EOFError when it is broken off."""
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
        """Nothing."""


class Engine(socketserver.ThreadingTCPServer):
    """``answers`` has a function of the handler for each call, 204 if none."""

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
        """What was called, without the negotiation."""
        return [r.call for r in self.requests if r.call != "GET /version"]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        super().close_request(request)
        self.closed.put(None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: connections break here on purpose."""


def answer(*body: Any, **values: Any) -> Callable[[Handler], None]:
    """A function that answers JSON: one value, or an object."""
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


@pytest.fixture
def engine(tmp_path, monkeypatch):
    # A socket's path has 108 bytes at most, and pytest's directories more.
    monkeypatch.chdir(tmp_path)
    with serving("Engine of Tests.sock") as engine:
        yield engine


@pytest.fixture
def client(engine):
    return DockerClient(engine.host)


# Where the engine is


@pytest.mark.parametrize("host", ["/run/docker.sock", "unix://", "ssh://host", ""])
def test_hosts_that_are_none(host):
    with pytest.raises(ValueError, match="not an engine"):
        DockerClient(host)


def test_an_engine_over_tcp():
    with serving() as engine:
        engine.answers["GET /info"] = answer(NCPU=2)
        assert DockerClient(engine.host).info() == {"NCPU": 2}


def test_no_socket(tmp_path):
    with pytest.raises(errors.Unreachable, match=r"No such file|ENOENT") as caught:
        DockerClient(f"unix://{tmp_path}/none.sock").info()
    assert caught.value.status is None
    assert f"{tmp_path}/none.sock" in caught.value.message


def test_nobody_listens():
    with serving() as engine:
        host = engine.host
    with pytest.raises(errors.Unreachable, match=r"Connection refused|ECONNREFUSED"):
        DockerClient(host).ping()


def test_a_socket_that_this_user_may_not_open(client, monkeypatch):
    def connect(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        requests_unixsocket.adapters.UnixHTTPConnection, "connect", connect
    )
    with pytest.raises(errors.Forbidden, match="group"):
        client.ping()


def test_proxies_of_the_environment_are_ignored(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as engine:
        DockerClient(engine.host).ping()
        assert engine.calls == ["GET /_ping"]


# The version


@pytest.mark.parametrize(
    ("newest", "oldest", "used"),
    [
        ("1.41", "1.12", "1.41"),
        ("1.44", "1.24", "1.44"),
        (http_transport.MAX_API_VERSION, "1.24", http_transport.MAX_API_VERSION),
        ("1.100", "1.44", http_transport.MAX_API_VERSION),
        ("2.0", "1.44", http_transport.MAX_API_VERSION),
    ],
)
def test_the_newest_version_that_both_speak(engine, client, newest, oldest, used):
    engine.answers["GET /version"] = answer(ApiVersion=newest, MinAPIVersion=oldest)
    client.stop_container("a", 0)
    client.start_container("a")
    assert client.api_version == used
    assert [(r.call, r.version) for r in engine.requests] == [
        ("GET /version", None),
        ("POST /containers/a/stop", used),
        ("POST /containers/a/start", used),
    ]


@pytest.mark.parametrize(
    "version",
    [
        {"ApiVersion": "1.40", "MinAPIVersion": "1.12"},
        {"ApiVersion": "1.9"},
        {"ApiVersion": "9.0", "MinAPIVersion": "2.0"},
        {"no": "engine"},
    ],
)
def test_an_engine_of_another_time(engine, client, version):
    engine.answers["GET /version"] = answer(version)
    with pytest.raises(errors.UnsupportedVersion, match=http_transport.MIN_API_VERSION):
        client.info()
    assert engine.calls == []


# Calls


LABELS = {"label": ["a", "b=c"]}
FILTERS = {"filters": json.dumps(LABELS)}


@pytest.mark.parametrize(
    ("call", "sent", "query"),
    [
        (lambda c: c.ping(), "GET /_ping", {}),
        (lambda c: c.list_containers(), "GET /containers/json", {"all": "1"}),
        (
            lambda c: c.list_containers(all=False, filters=LABELS),
            "GET /containers/json",
            {"all": "0"} | FILTERS,
        ),
        (lambda c: c.inspect_container("a"), "GET /containers/a/json", {}),
        (lambda c: c.start_container("a"), "POST /containers/a/start", {}),
        (
            lambda c: c.start_container("a", checkpoint="one"),
            "POST /containers/a/start",
            {"checkpoint": "one"},
        ),
        (
            lambda c: c.delete_checkpoint("a", "one"),
            "DELETE /containers/a/checkpoints/one",
            {},
        ),
        (lambda c: c.stop_container("a", 7), "POST /containers/a/stop", {"t": "7"}),
        (
            lambda c: c.restart_container("a", 7),
            "POST /containers/a/restart",
            {"t": "7"},
        ),
        (
            lambda c: c.kill_container("a"),
            "POST /containers/a/kill",
            {"signal": "KILL"},
        ),
        (lambda c: c.pause_container("a"), "POST /containers/a/pause", {}),
        (lambda c: c.unpause_container("a"), "POST /containers/a/unpause", {}),
        (
            lambda c: c.remove_container("a"),
            "DELETE /containers/a",
            {"force": "1", "v": "1"},
        ),
        (
            lambda c: c.remove_container("a", force=False, volumes=False),
            "DELETE /containers/a",
            {"force": "0", "v": "0"},
        ),
        (lambda c: c.list_images(LABELS), "GET /images/json", FILTERS),
        (lambda c: c.inspect_image("r/a:1"), "GET /images/r/a:1/json", {}),
        (lambda c: c.inspect_image("r@x:1"), "GET /images/r@x:1/json", {}),
        (lambda c: c.inspect_image("a?b#c"), "GET /images/a%3Fb%23c/json", {}),
        (
            lambda c: c.tag_image("a", "r/b", "1"),
            "POST /images/a/tag",
            {"repo": "r/b", "tag": "1"},
        ),
        (lambda c: c.remove_image("a:1"), "DELETE /images/a:1", {"force": "0"}),
        (lambda c: c.remove_image("a", force=True), "DELETE /images/a", {"force": "1"}),
    ],
)
def test_what_each_method_asks(engine, client, call, sent, query):
    engine.answers[sent] = answer({})
    call(client)
    assert (engine.requests[-1].call, engine.requests[-1].query) == (sent, query)


def test_creating(engine, client):
    engine.answers["POST /containers/create"] = answer(Id="abc", Warnings=[])
    assert client.create_container("nova-1", {"Image": "a"}) == "abc"
    request = engine.requests[-1]
    assert (request.query, request.body) == ({"name": "nova-1"}, {"Image": "a"})


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (500, errors.EngineError),
        (503, errors.EngineError),
        (301, errors.EngineError),
        (418, errors.EngineError),
    ],
)
def test_the_engines_errors_have_types(engine, client, status, kind):
    engine.answers["GET /info"] = lambda handler: handler.answer(
        status, b'{"message": "because"}', Location="/elsewhere"
    )
    with pytest.raises(errors.DockerError) as caught:
        client.info()
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.message) == (status, "because")
    assert str(caught.value) == "because"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"page not found\n", "page not found"),
        (b"", "Bad Gateway"),
        (b"[]", "[]"),
        (b'{"error": 1}', '{"error": 1}'),
    ],
)
def test_errors_that_are_not_the_engines(engine, client, body, message):
    engine.answers["GET /info"] = lambda handler: handler.answer(502, body)
    with pytest.raises(errors.EngineError) as caught:
        client.info()
    assert caught.value.message == message


def test_an_answer_that_is_no_json(engine, client):
    engine.answers["GET /info"] = lambda handler: handler.answer(200, b"<html>")
    with pytest.raises(errors.EngineError, match="not JSON"):
        client.info()


def test_what_is_so_already_is_no_error(engine, client):
    engine.answers["POST /containers/a/stop"] = lambda handler: handler.answer(304)
    client.stop_container("a", 0)
    client.ping()
    assert engine.connections == 1


# Connections


def test_a_thread_has_one_connection(engine, client):
    for ref in ("a", "b", "c"):
        client.start_container(ref)
        client.stop_container(ref, 0)
    assert engine.connections == 1


def test_threads_share_no_connection(engine, client):
    """All wait for each other in the engine, so that none can have waited before."""
    count = 8
    barrier = threading.Barrier(count)

    def wait(handler):
        barrier.wait(TIMEOUT)
        handler.answer(204)

    engine.answers["POST /containers/a/start"] = wait
    failures = []

    def start():
        try:
            client.start_container("a")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert failures == []
    assert engine.connections == count


def lose(times: int, then: Callable[[Handler], None]) -> Callable[[Handler], None]:
    """Lose the connection of so many calls without an answer."""
    left = itertools.chain([Handler.drop] * times, itertools.repeat(then))
    return lambda handler: next(left)(handler)


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda c: c.ping(), "GET /_ping"),
        (lambda c: c.inspect_container("a"), "GET /containers/a/json"),
        (lambda c: c.start_container("a"), "POST /containers/a/start"),
        (lambda c: c.stop_container("a", 0), "POST /containers/a/stop"),
        (lambda c: c.remove_container("a"), "DELETE /containers/a"),
        (lambda c: c.tag_image("a", "b", "c"), "POST /images/a/tag"),
        (lambda c: c.events().close(), "GET /events"),
    ],
)
def test_what_may_be_repeated_is(engine, client, call, sent):
    engine.answers[sent] = lose(2, answer({}))
    call(client)
    assert engine.calls == [sent] * 3


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (lambda c: c.create_container("a", {}), "POST /containers/create"),
        (lambda c: c.load_image([b"a"]), "POST /images/load"),
        (lambda c: c.kill_container("a"), "POST /containers/a/kill"),
        (lambda c: c.restart_container("a", 0), "POST /containers/a/restart"),
        (lambda c: c.pause_container("a"), "POST /containers/a/pause"),
        (lambda c: c.unpause_container("a"), "POST /containers/a/unpause"),
    ],
)
def test_what_may_not_be_repeated_is_not(engine, client, call, sent):
    engine.answers[sent] = lose(1, answer(Id="a"))
    with pytest.raises(errors.Unreachable):
        call(client)
    assert engine.calls == [sent]


def test_it_is_not_repeated_for_ever(engine, client):
    engine.answers["GET /_ping"] = Handler.drop
    with pytest.raises(errors.Unreachable):
        client.ping()
    assert engine.calls == ["GET /_ping"] * 3


def test_a_connection_that_the_engine_has_closed_since(engine, client):
    def answer_and_close(handler):
        handler.answer(204)
        handler.close_connection = True

    engine.answers["GET /_ping"] = answer_and_close
    engine.answers["POST /containers/create"] = answer(Id="abc")
    client.ping()
    client.ping()
    engine.closed.get(timeout=TIMEOUT)
    assert client.api_version
    assert client.create_container("a", {}) == "abc"
    assert engine.calls.count("POST /containers/create") == 1


# Time


def wait_for(event: threading.Event) -> Callable[[Handler], None]:
    def wait(handler: Handler) -> None:
        event.wait(TIMEOUT)
        handler.no_content()

    return wait


def test_an_engine_that_is_silent(engine):
    over = threading.Event()
    engine.answers["GET /_ping"] = wait_for(over)
    started = time.monotonic()
    with pytest.raises(errors.Timeout, match="GET /_ping"):
        DockerClient(engine.host, read_timeout=0.1).ping()
    over.set()
    assert time.monotonic() - started < TIMEOUT / 2
    assert engine.calls == ["GET /_ping"]


def test_an_engine_that_falls_silent(engine):
    over = threading.Event()

    def half(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b"{")
        over.wait(TIMEOUT)

    engine.answers["GET /info"] = half
    with pytest.raises(errors.Timeout):
        DockerClient(engine.host, read_timeout=0.1).info()
    over.set()


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_the_grace_period_is_no_silence(engine, verb):
    def slowly(handler):
        time.sleep(0.5)
        handler.answer(204)

    engine.answers[f"POST /containers/a/{verb}"] = slowly
    client = DockerClient(engine.host, read_timeout=0.2)
    getattr(client, f"{verb}_container")("a", 1)
    assert engine.requests[-1].query == {"t": "1"}


def test_events_may_be_rare(engine):
    def seldom(handler):
        def events():
            time.sleep(0.5)
            yield b'{"Action": "start"}\n'

        handler.stream(events())

    engine.answers["GET /events"] = seldom
    with DockerClient(engine.host, read_timeout=0.1).events() as stream:
        assert next(stream) == {"Action": "start"}


# Uploads


def test_an_upload_is_sent_as_it_comes(engine, client):
    arrived: queue.Queue[bytes] = queue.Queue()

    def load(handler):
        for chunk in handler.upload():
            arrived.put(chunk)
        handler.stream([b'{"stream": "Loaded"}\n'])

    engine.answers["POST /images/load"] = load

    def chunks():
        for chunk in (b"one", b"", b"two" * 100000, b"three"):
            yield chunk
            if chunk:
                # Not produced before the engine has had this one.
                assert arrived.get(timeout=TIMEOUT) == chunk

    assert client.load_image(chunks()) == [{"stream": "Loaded"}]
    headers = engine.requests[-1].headers
    assert headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in headers


@pytest.mark.parametrize(
    "error",
    [
        LookupError("no more"),
        OSError(5, "disk"),
        BrokenPipeError(32, "another pipe"),
        ConnectionResetError("another connection"),
        TimeoutError("another time"),
        requests.ConnectionError("another server"),
        requests.ReadTimeout("another server"),
        errors.NotFound("another engine"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_upload_that_breaks_off(engine, client, error):
    ends: queue.Queue[str] = queue.Queue()

    def load(handler):
        try:
            collections.deque(handler.upload(), maxlen=0)
            ends.put("complete")
        except EOFError:
            ends.put("broken off")

    engine.answers["POST /images/load"] = load

    def chunks():
        yield b"half"
        raise error

    with pytest.raises(type(error)) as caught:
        client.load_image(chunks())
    assert caught.value is error
    assert ends.get(timeout=TIMEOUT) == "broken off"
    client.ping()


def test_an_engine_that_refuses_in_the_middle(engine, client):
    def refuse(handler):
        next(handler.upload())
        handler.answer(500, b'{"message": "no space left on device"}')
        handler.drop()

    engine.answers["POST /images/load"] = refuse
    ended = []

    def endless():
        try:
            while True:
                yield b"x" * 65536
        finally:
            ended.append(True)

    with pytest.raises(errors.EngineError, match="no space left"):
        client.load_image(endless())
    assert ended == [True]


def test_a_failure_after_the_engine_said_200(engine, client):
    def fail(handler):
        collections.deque(handler.upload(), maxlen=0)
        handler.stream([b'{"stream": "a"}\r\n', b'{"err', b'or": "bad layer"}\r\n'])

    engine.answers["POST /images/load"] = fail
    with pytest.raises(errors.EngineError, match="bad layer") as caught:
        client.load_image([b"a"])
    assert caught.value.status == 200


def test_an_engine_lost_while_it_loads(engine, client):
    def leave(handler):
        collections.deque(handler.upload(), maxlen=0)
        handler.stream([b'{"stream": "a"}\n'], end=False)

    engine.answers["POST /images/load"] = leave
    with pytest.raises(errors.Unreachable):
        client.load_image([b"a"])


def test_loading_takes_the_time_it_takes(engine):
    def slowly(handler):
        # Nothing is read, so the client waits to send; then nothing is said.
        time.sleep(0.5)
        collections.deque(handler.upload(), maxlen=0)
        time.sleep(1.5)
        handler.stream([b'{"stream": "a"}\n'])

    engine.answers["POST /images/load"] = slowly
    client = DockerClient(engine.host, connect_timeout=0.1, read_timeout=1)
    assert client.load_image([b"x" * 2**22]) == [{"stream": "a"}]


# Events


class Follower:
    """Reads a stream in a thread: what it gave, then how it ended."""

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


@pytest.fixture
def happen(engine):
    """A queue of what the engine sends on its event stream; None breaks it."""
    pending: queue.Queue[bytes | None] = queue.Queue()
    engine.answers["GET /events"] = lambda handler: handler.stream(
        iter(pending.get, None), end=False
    )
    yield pending
    pending.put(None)


def test_events_come_at_once(engine, client, happen):
    with client.events(since=1.5, filters=LABELS) as stream:
        follower = Follower(stream)
        happen.put(b'{"n": 1}\n')
        assert follower.next() == {"n": 1}
        happen.put(b'{"n": 2}\n{"n": 3}\n{"n"')
        assert follower.next() == {"n": 2}
        assert follower.next() == {"n": 3}
        happen.put(b": 4}\n")
        assert follower.next() == {"n": 4}
    assert engine.requests[-1].query == {"since": "1.500000000"} | FILTERS


def test_a_lost_engine_ends_the_events(client, happen):
    with client.events() as stream:
        follower = Follower(stream)
        happen.put(b'{"n": 1}\n')
        happen.put(None)
        assert follower.next() == {"n": 1}
        assert isinstance(follower.next(), errors.Unreachable)


def test_an_engine_that_stops_in_good_order_is_lost_too(engine, client):
    engine.answers["GET /events"] = lambda handler: handler.stream([b'{"n": 1}\n'])
    with client.events() as stream:
        assert next(stream) == {"n": 1}
        with pytest.raises(errors.Unreachable):
            next(stream)


def test_closing_ends_who_waits_for_events(client, happen):
    stream = client.events()
    follower = Follower(stream)
    happen.put(b'{"n": 1}\n')
    assert follower.next() == {"n": 1}
    started = time.monotonic()
    stream.close()
    assert follower.next() == "end"
    assert time.monotonic() - started < 1
    stream.close()
    assert list(stream) == []


def test_closing_before_the_first_event(client, happen):
    with client.events() as stream:
        stream.close()
        happen.put(b'{"n": 1}\n')
        assert list(stream) == []


def test_events_have_a_connection_of_their_own(engine, client, happen):
    """The thread that ends one must not find it with another call on it."""
    client.ping()
    with client.events():
        assert engine.connections == 2
    client.ping()
    assert engine.connections == 2


def test_other_calls_go_on_while_events_are_followed(client, happen):
    with client.events() as stream:
        client.ping()
        happen.put(b'{"n": 1}\n')
        assert next(stream) == {"n": 1}


# Logs


OUTPUT = b"".join(bytes([i]) * i for i in range(256))
FRAMES = b"".join(
    bytes([1 + i % 2, 0, 0, 0]) + len(part).to_bytes(4, "big") + part
    for i, part in enumerate([OUTPUT[:5], b"", OUTPUT[5:9000], OUTPUT[9000:]])
)


@pytest.mark.parametrize(
    ("kind", "tty", "body"),
    [
        (None, True, OUTPUT),
        (None, False, FRAMES),
        ("application/vnd.docker.raw-stream", None, OUTPUT),
        ("application/vnd.docker.multiplexed-stream", None, FRAMES),
    ],
)
def test_logs_are_what_was_written(engine, client, kind, tty, body):
    headers = {"Content_Type": kind} if kind else {}
    engine.answers["GET /containers/a/logs"] = lambda handler: handler.answer(
        200, body, **headers
    )
    if tty is not None:
        engine.answers["GET /containers/a/json"] = answer(Config={"Tty": tty})
    assert client.container_logs("a", tail=5) == OUTPUT
    [query] = [r.query for r in engine.requests if r.call == "GET /containers/a/logs"]
    assert query == {"stdout": "1", "stderr": "1", "tail": "5"}


def test_all_of_a_log(engine, client):
    engine.answers["GET /containers/a/logs"] = lambda handler: handler.answer(
        200, b"", Content_Type="application/vnd.docker.raw-stream"
    )
    assert client.container_logs("a") == b""
    assert engine.requests[-1].query["tail"] == "all"


# TLS


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A directory with ca.pem, and {server,client,stranger}{,-key}.pem.

    Nobody trusts the stranger, who signed for itself.
    """
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def make(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer_name, issuer_key = issuer or (subject, key)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
            .sign(issuer_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (directory / f"{name}-key.pem").write_bytes(
            key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return subject, key

    ca = make("ca")
    make("server", ca)
    make("client", ca)
    make("stranger")
    return directory


@pytest.fixture
def tls_engine(pki):
    """An engine that asks for a client's certificate, as dockerd --tlsverify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server-key.pem")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with serving() as engine:
        engine.socket = context.wrap_socket(engine.socket, server_side=True)
        yield engine


@pytest.fixture
def tls(pki):
    return TLSConfig(
        ca_file=str(pki / "ca.pem"),
        cert_file=str(pki / "client.pem"),
        key_file=str(pki / "client-key.pem"),
    )


def test_tls(tls_engine, tls):
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


def test_certificate_and_key_in_one_file(tls_engine, tls, pki, tmp_path):
    both = tmp_path / "both.pem"
    names = ("client.pem", "client-key.pem")
    both.write_bytes(b"".join((pki / name).read_bytes() for name in names))
    tls = dataclasses.replace(tls, cert_file=str(both), key_file=None)
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


@pytest.mark.parametrize("ca", ["stranger.pem", None])
def test_an_engine_that_nobody_vouches_for(tls_engine, tls, pki, ca, monkeypatch):
    # Not even when the environment does.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pki / "ca.pem"))
    tls = dataclasses.replace(tls, ca_file=ca and str(pki / ca))
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == []


def test_an_engine_of_another_name(tls_engine, tls):
    host = tls_engine.host.replace("127.0.0.1", "localhost")
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        DockerClient(host, tls=tls).ping()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_switched_off(tls_engine, tls):
    tls = dataclasses.replace(tls, ca_file=None, verify=False)
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


@pytest.mark.parametrize("own", [None, "stranger"])
def test_a_client_that_the_engine_does_not_trust(tls_engine, tls, pki, own):
    tls = dataclasses.replace(
        tls,
        cert_file=own and str(pki / f"{own}.pem"),
        key_file=own and str(pki / f"{own}-key.pem"),
    )
    with pytest.raises(errors.Unreachable):
        DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == []


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_file_that_is_not_there(tls_engine, tls, field):
    tls = dataclasses.replace(tls, **{field: "/none.pem"})
    with pytest.raises(errors.DockerError, match=r"/none\.pem"):
        DockerClient(tls_engine.host, tls=tls).ping()


def test_closing_ends_who_waits_for_events_over_tls(tls_engine, tls):
    over = threading.Event()

    def wait(handler):
        def events():
            yield b'{"n": 1}\n'
            over.wait(TIMEOUT)

        handler.stream(events())

    tls_engine.answers["GET /events"] = wait
    stream = DockerClient(tls_engine.host, tls=tls).events()
    follower = Follower(stream)
    assert follower.next() == {"n": 1}
    stream.close()
    assert follower.next() == "end"
    over.set()


# Threads of either kind


EVENTLET = """
import sys
import eventlet
eventlet.monkey_patch()
import time
from docker_engine.client import DockerClient

client = DockerClient(sys.argv[1])
stream = client.events()
got = []
follower = eventlet.spawn(lambda: got.extend(stream))
calls = [eventlet.spawn(client.start_container, "a") for _ in range(4)]
for call in calls:
    call.wait()
assert client.load_image(iter([b"a", b"b"])) == [{"stream": "Loaded"}]
while not got:
    time.sleep(0.01)
with eventlet.Timeout(5):
    stream.close()
    follower.wait()
assert got == [{"n": 1}], got
"""


def test_green_threads(engine, happen):
    """The four calls wait for each other: they were made at the same time."""
    barrier = threading.Barrier(4)

    def start(handler):
        barrier.wait(TIMEOUT)
        handler.answer(204)

    def load(handler):
        assert b"".join(handler.upload()) == b"ab"
        handler.stream([b'{"stream": "Loaded"}\n'])

    engine.answers["POST /containers/a/start"] = start
    engine.answers["POST /images/load"] = load
    happen.put(b'{"n": 1}\n')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVENTLET, engine.host],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_eventlet_is_not_imported():
    program = "import sys, docker_engine.client; assert 'eventlet' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
