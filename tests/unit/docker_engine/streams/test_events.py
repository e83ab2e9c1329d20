# SPDX-License-Identifier: Apache-2.0
"""Streams of events and of progress messages."""

from __future__ import annotations

import collections
import time

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from tests.unit.docker_engine.http_engine import FILTERS
from tests.unit.docker_engine.http_engine import LABELS
from tests.unit.docker_engine.http_engine import Follower


def test_the_read_timeout_does_not_apply_to_events(engine):
    def seldom(handler):
        def events():
            time.sleep(1.5)
            yield b'{"Action": "start"}\n'

        handler.stream(events())

    engine.answers["GET /events"] = seldom
    with DockerClient(engine.host, read_timeout=1).events() as stream:
        assert next(stream) == {"Action": "start"}


def test_events_arrive_as_they_happen(engine, client, happen):
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


def test_a_lost_connection_ends_the_events_with_an_error(client, happen):
    with client.events() as stream:
        follower = Follower(stream)
        happen.put(b'{"n": 1}\n')
        happen.put(None)
        assert follower.next() == {"n": 1}
        lost = follower.next()
        assert isinstance(lost, errors.Unreachable)
        # And not what a library says of half a chunk.
        assert lost.message.endswith("the engine closed the connection")


def test_an_engine_that_ends_the_stream_is_unreachable(engine, client):
    engine.answers["GET /events"] = lambda handler: handler.stream([b'{"n": 1}\n'])
    with client.events() as stream:
        assert next(stream) == {"n": 1}
        with pytest.raises(errors.Unreachable):
            next(stream)


def test_closing_ends_a_blocked_iteration(client, happen):
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


def test_a_stream_may_be_closed_before_the_first_event(client, happen):
    with client.events() as stream:
        stream.close()
        happen.put(b'{"n": 1}\n')
        assert list(stream) == []


def test_events_use_a_separate_connection(engine, client, happen):
    """A thread that closes the stream must not disturb another call."""
    client.ping()
    with client.events():
        assert engine.connections == 2
    client.ping()
    assert engine.connections == 2


def test_other_calls_work_while_events_are_followed(client, happen):
    with client.events() as stream:
        client.ping()
        happen.put(b'{"n": 1}\n')
        assert next(stream) == {"n": 1}


def test_a_failure_reported_after_status_200_is_an_error(engine, client):
    def fail(handler):
        collections.deque(handler.upload(), maxlen=0)
        handler.stream([b'{"stream": "a"}\r\n', b'{"err', b'or": "bad layer"}\r\n'])

    engine.answers["POST /images/load"] = fail
    with pytest.raises(errors.EngineError, match="bad layer") as caught:
        client.load_image([b"a"])
    assert caught.value.status == 200


def test_a_connection_lost_while_loading_is_unreachable(engine, client):
    def leave(handler):
        collections.deque(handler.upload(), maxlen=0)
        handler.stream([b'{"stream": "a"}\n'], end=False)

    engine.answers["POST /images/load"] = leave
    with pytest.raises(errors.Unreachable):
        client.load_image([b"a"])
