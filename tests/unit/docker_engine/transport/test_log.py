# SPDX-License-Identifier: Apache-2.0
"""The debug log of calls to an engine: what it contains, and what it must not."""

from __future__ import annotations

import base64
import logging
import re
import time
from urllib import parse

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.transport import http as http_transport
from tests.unit.docker_engine.http_engine import FILTERS
from tests.unit.docker_engine.http_engine import LABELS
from tests.unit.docker_engine.http_engine import Handler
from tests.unit.docker_engine.http_engine import answer
from tests.unit.docker_engine.http_engine import lose

SECRET = "s3cr3t"


@pytest.fixture
def calls(caplog):
    """Returns the lines logged so far, with every duration replaced by N."""
    caplog.set_level(logging.DEBUG, http_transport.LOG.name)

    def lines():
        return [
            re.sub(r" \d+ ms$", " N ms", record.getMessage())
            for record in caplog.records
            if record.name == http_transport.LOG.name
        ]

    return lines


def test_each_call_is_logged_with_its_query_status_and_duration(engine, client, calls):
    engine.answers["GET /containers/json"] = answer([])
    client.list_containers(filters=LABELS)
    client.stop_container("a", 7)
    query = parse.urlencode({"all": "1", **FILTERS})
    assert calls() == [
        "GET /version: 200 after N ms",
        f"GET /v1.41/containers/json?{query}: 200 after N ms",
        "POST /v1.41/containers/a/stop?t=7: 204 after N ms",
    ]


def test_the_duration_is_in_milliseconds(engine, client, caplog):
    def slowly(handler):
        time.sleep(0.1)
        handler.no_content()

    engine.answers["GET /_ping"] = slowly
    caplog.set_level(logging.DEBUG, http_transport.LOG.name)
    client.ping()
    [duration] = re.findall(r"after (\d+) ms", caplog.text)
    assert 100 <= int(duration) < 5000


def test_lines_are_logged_at_debug_level(client, caplog):
    caplog.set_level(logging.DEBUG, http_transport.LOG.name)
    client.ping()
    [record] = [r for r in caplog.records if r.name == http_transport.LOG.name]
    assert record.levelno == logging.DEBUG


def test_the_status_of_an_error_is_logged(engine, client, calls):
    engine.answers["POST /containers/a/pause"] = lambda handler: handler.answer(
        409, b'{"message": "already paused"}'
    )
    with pytest.raises(errors.Conflict):
        client.pause_container("a")
    assert calls()[-1] == "POST /v1.41/containers/a/pause: 409 after N ms"


def test_each_retry_has_its_own_line(engine, client, calls):
    engine.answers["GET /_ping"] = lose(2, Handler.no_content)
    client.ping()
    lost = "GET /_ping: RemoteDisconnected after N ms"
    assert calls() == [lost, lost, "GET /_ping: 204 after N ms"]


def test_a_call_that_fails_is_logged_with_the_name_of_the_error(tmp_path, calls):
    with pytest.raises(errors.Unreachable):
        DockerClient(f"unix://{tmp_path}/none.sock").ping()
    assert calls() == ["GET /_ping: FileNotFoundError after N ms"]


def test_an_upload_that_breaks_off_is_logged(client, calls):
    def chunks():
        yield b"half"
        raise LookupError(SECRET)

    with pytest.raises(LookupError):
        client.load_image(chunks())
    assert calls()[-1] == "POST /v1.41/images/load?quiet=1: aborted after N ms"


def test_headers_bodies_and_credentials_are_never_logged(engine, client, caplog):
    """By no logger: the HTTP libraries have a debug log of their own."""
    caplog.set_level(logging.DEBUG)
    engine.answers["POST /images/create"] = answer(status=SECRET)
    engine.answers["POST /containers/create"] = answer(Id=SECRET)
    engine.answers["POST /containers/b/update"] = lambda handler: handler.answer(
        500, f'{{"message": "{SECRET}"}}'.encode()
    )
    client.pull_image("host/name", "sha256:0", ("nova", SECRET))
    client.create_container("a", {"Env": [f"PASSWORD={SECRET}"]})
    with pytest.raises(errors.EngineError, match=SECRET):
        client.update_container("b", {"Memory": SECRET})

    sent = engine.requests[1].headers["X-Registry-Auth"]
    assert SECRET in base64.urlsafe_b64decode(sent).decode()
    assert len(caplog.messages) >= 4
    logged = "\n".join(str(record.__dict__) for record in caplog.records)
    for text in (SECRET, sent, "X-Registry-Auth", "Content-Type", "PASSWORD"):
        assert text not in logged


def test_nothing_is_formatted_unless_debug_is_on(engine, client, caplog, monkeypatch):
    caplog.set_level(logging.INFO, http_transport.LOG.name)
    engine.answers["GET /containers/json"] = answer([])

    def fail(*arguments, **options):
        raise AssertionError("formatted")

    monkeypatch.setattr(http_transport.LOG, "debug", fail)
    monkeypatch.setattr(http_transport.parse, "urlencode", fail)
    assert client.list_containers() == []
    caplog.set_level(logging.DEBUG, http_transport.LOG.name)
    with pytest.raises(AssertionError, match="formatted"):
        client.list_containers()
