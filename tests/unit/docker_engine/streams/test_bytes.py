# SPDX-License-Identifier: Apache-2.0
"""Uploads are streamed, and broken off when an error occurs on either side."""

from __future__ import annotations

import collections
import contextlib
import queue

import pytest
import requests

from docker_engine import errors
from tests.unit.docker_engine.http_engine import TIMEOUT


def test_an_upload_is_streamed(engine, client):
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
                # The next chunk is not produced before the engine received this one.
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
def test_an_exception_in_the_upload_breaks_it_off_and_is_raised(engine, client, error):
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


def test_an_error_response_ends_the_upload(engine, client):
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


@pytest.mark.parametrize("size", [100, -1])
def test_a_download_that_breaks_off_is_an_error(engine, client, size):
    def break_off(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "10")
        handler.end_headers()
        handler.wfile.write(b"short")
        handler.drop()

    engine.answers["GET /images/a/get"] = break_off
    with (
        contextlib.closing(client.save_image("a")) as archive,
        pytest.raises(errors.Unreachable),
    ):
        archive.read(size)


@pytest.mark.parametrize("size", [3, 10, 100, -1])
def test_a_download_is_read_to_its_end(engine, client, size):
    engine.answers["GET /images/a/get"] = lambda handler: handler.answer(200, b"0" * 10)
    with contextlib.closing(client.save_image("a")) as archive:
        got = b"".join(iter(lambda: archive.read(size), b""))
    assert got == b"0" * 10
