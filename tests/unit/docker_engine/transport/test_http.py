# SPDX-License-Identifier: Apache-2.0
"""API versions, errors, connections, repetition and timeouts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.transport import http as http_transport
from tests.unit.docker_engine.http_engine import TIMEOUT
from tests.unit.docker_engine.http_engine import Handler
from tests.unit.docker_engine.http_engine import answer


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
def test_the_newest_common_api_version_is_used(engine, client, newest, oldest, used):
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
def test_an_engine_without_a_common_api_version_is_unsupported(engine, client, version):
    engine.answers["GET /version"] = answer(version)
    with pytest.raises(errors.UnsupportedVersion, match=http_transport.MIN_API_VERSION):
        client.info()
    assert engine.calls == []


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
def test_the_status_of_a_response_determines_the_error(engine, client, status, kind):
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
def test_errors_in_another_format_keep_their_text(engine, client, body, message):
    engine.answers["GET /info"] = lambda handler: handler.answer(502, body)
    with pytest.raises(errors.EngineError) as caught:
        client.info()
    assert caught.value.message == message


@pytest.mark.parametrize("chunked", [True, False])
def test_an_error_whose_text_breaks_off_is_still_that_error(engine, client, chunked):
    def break_off(handler):
        handler.send_response(409)
        if chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", "100")
        handler.end_headers()
        handler.wfile.write(b'40\r\n{"message": "brok')
        handler.drop()

    engine.answers["GET /containers/a/archive"] = break_off
    with pytest.raises(errors.Conflict, match="Conflict"):
        client.get_archive("a", "/etc/passwd", max_size=100)


def test_a_response_that_is_not_json_is_an_error(engine, client):
    engine.answers["GET /info"] = lambda handler: handler.answer(200, b"<html>")
    with pytest.raises(errors.EngineError, match="not JSON"):
        client.info()


def test_not_modified_is_no_error(engine, client):
    engine.answers["POST /containers/a/stop"] = lambda handler: handler.answer(304)
    client.stop_container("a", 0)
    client.ping()
    assert engine.connections == 1


def test_a_thread_reuses_its_connection(engine, client):
    for ref in ("a", "b", "c"):
        client.start_container(ref)
        client.stop_container(ref, 0)
    assert engine.connections == 1


def test_threads_do_not_share_connections(engine, client):
    """All calls wait for each other in the engine: none may queue for a connection."""
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


def test_a_call_is_repeated_at_most_twice(engine, client):
    engine.answers["GET /_ping"] = Handler.drop
    with pytest.raises(errors.Unreachable):
        client.ping()
    assert engine.calls == ["GET /_ping"] * 3


def test_a_connection_that_the_engine_closed_is_replaced(engine, client):
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


def test_a_failure_that_the_caller_handles_does_not_affect_the_call(engine, client):
    """A clean-up after an error is repeated, and fails, like any other call."""

    def drop_once(handler):
        engine.answers.pop("GET /_ping")
        handler.drop()

    engine.answers["GET /_ping"] = drop_once
    absent = DockerClient("unix://absent.sock")
    try:
        raise TimeoutError("of something else")
    except TimeoutError:
        client.ping()
        with pytest.raises(errors.Unreachable, match=r"Errno 2"):
            absent.ping()
    assert engine.calls == ["GET /_ping"] * 2


def wait_for(event: threading.Event) -> Callable[[Handler], None]:
    def wait(handler: Handler) -> None:
        event.wait(TIMEOUT)
        handler.no_content()

    return wait


def test_a_silent_engine_times_out(engine):
    over = threading.Event()
    engine.answers["GET /_ping"] = wait_for(over)
    started = time.monotonic()
    with pytest.raises(errors.Timeout, match="GET /_ping"):
        DockerClient(engine.host, read_timeout=0.1).ping()
    over.set()
    assert time.monotonic() - started < TIMEOUT / 2
    assert engine.calls == ["GET /_ping"]


def test_a_response_that_stalls_times_out(engine):
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


def test_a_server_that_does_not_speak_http_is_reported_in_the_librarys_words(engine):
    """Only a response that breaks off while it is read counts as a lost connection."""
    engine.answers["GET /_ping"] = lambda handler: handler.wfile.write(b"SSH-2.0\r\n")
    with pytest.raises(errors.Unreachable) as caught:
        DockerClient(engine.host).ping()
    assert "closed the connection" not in caught.value.message
