# SPDX-License-Identifier: Apache-2.0
"""Creating and stopping containers, and reading their logs."""

from __future__ import annotations

import threading
import time

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from tests.unit.docker_engine.http_engine import answer


def test_a_container_is_created_with_its_name_and_configuration(engine, client):
    engine.answers["POST /containers/create"] = answer(Id="abc", Warnings=[])
    assert client.create_container("nova-1", {"Image": "a"}) == "abc"
    request = engine.requests[-1]
    assert (request.query, request.body) == ({"name": "nova-1"}, {"Image": "a"})


@pytest.mark.parametrize("verb", ["stop", "restart"])
def test_the_grace_period_extends_the_read_timeout(engine, verb):
    def slowly(handler):
        time.sleep(1.5)
        handler.answer(204)

    engine.answers[f"POST /containers/a/{verb}"] = slowly
    client = DockerClient(engine.host, read_timeout=1)
    getattr(client, f"{verb}_container")("a", 9)
    assert engine.requests[-1].query == {"t": "9"}


@pytest.mark.parametrize(
    ("sent", "call"),
    [
        ("DELETE /containers/a", lambda c: c.remove_container("a", timeout=0.2)),
        ("POST /containers/a/unpause", lambda c: c.unpause_container("a", timeout=0.2)),
        ("DELETE /images/a", lambda c: c.remove_image("a", timeout=0.2)),
    ],
)
def test_a_caller_may_wait_for_less_than_the_read_timeout(engine, client, sent, call):
    ended = threading.Event()
    engine.answers[sent] = lambda handler: ended.wait(20)
    try:
        with pytest.raises(errors.Timeout):
            call(client)
    finally:
        ended.set()


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
def test_logs_are_returned_without_frames(engine, client, kind, tty, body):
    headers = {"Content_Type": kind} if kind else {}
    engine.answers["GET /containers/a/logs"] = lambda handler: handler.answer(
        200, body, **headers
    )
    if tty is not None:
        engine.answers["GET /containers/a/json"] = answer(Config={"Tty": tty})
    assert client.container_logs("a", tail=5) == OUTPUT
    [query] = [r.query for r in engine.requests if r.call == "GET /containers/a/logs"]
    assert query == {"stdout": "1", "stderr": "1", "tail": "5"}


def test_the_whole_log_is_returned_by_default(engine, client):
    engine.answers["GET /containers/a/logs"] = lambda handler: handler.answer(
        200, b"", Content_Type="application/vnd.docker.raw-stream"
    )
    assert client.container_logs("a") == b""
    assert engine.requests[-1].query["tail"] == "all"


def test_an_archive_is_not_compressed_so_that_its_size_is_known(engine, client):
    engine.answers["GET /containers/a/archive"] = lambda handler: handler.answer(
        200, b"archive"
    )
    assert client.get_archive("a", "/etc/passwd", max_size=7) == b"archive"
    assert engine.requests[-1].headers["Accept-Encoding"] == "identity"
    with pytest.raises(errors.DockerError, match="larger than 6 bytes"):
        client.get_archive("a", "/etc/passwd", max_size=6)


def test_an_error_without_a_message_says_what_the_engine_was_asked(engine, client):
    engine.answers["HEAD /containers/a/archive"] = lambda handler: handler.answer(500)
    with pytest.raises(errors.EngineError, match="cannot look at /etc/passwd in a"):
        client.stat_path("a", "/etc/passwd")


@pytest.mark.parametrize("header", [{}, {"X-Docker-Container-Path-Stat": "e30"}])
def test_a_file_that_is_not_described_is_the_engines_error(engine, client, header):
    def answer(handler):
        handler.send_response(200)
        for name, value in header.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    engine.answers["HEAD /containers/a/archive"] = answer
    with pytest.raises(errors.EngineError, match="did not describe /etc/passwd in a"):
        client.stat_path("a", "/etc/passwd")
