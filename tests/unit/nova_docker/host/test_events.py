# SPDX-License-Identifier: Apache-2.0
"""What Nova is told of an engine's events, and of what was missed."""

from __future__ import annotations

import queue
import threading

import pytest
from nova.virt import event as virtevent

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.container import naming
from nova_docker.host import events
from tests import archives

TIMEOUT = 10
STARTED = virtevent.EVENT_LIFECYCLE_STARTED
STOPPED = virtevent.EVENT_LIFECYCLE_STOPPED
PAUSED = virtevent.EVENT_LIFECYCLE_PAUSED
RESUMED = virtevent.EVENT_LIFECYCLE_RESUMED


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["busybox:1"])])
    return mock


@pytest.fixture
def server(client):
    labels = {naming.UUID_LABEL: "1"}
    client.create_container("nova-1", {"Image": "busybox:1", "Labels": labels})
    return "nova-1"


@pytest.fixture
def told(client, server, monkeypatch):
    """A queue of what Nova is told; following has begun."""
    monkeypatch.setattr(events, "RECONNECT_INTERVAL", 0.01)
    heard = queue.Queue()
    room = events.LifecycleEvents(
        client,
        lambda event: heard.put((event.get_instance_uuid(), event.get_transition())),
    )
    room.start()
    # The first event that is told shows that it follows.
    client.start_container(server)
    while True:
        try:
            assert heard.get(timeout=0.5) == ("1", STARTED)
            break
        except queue.Empty:
            client.restart_container(server, 0)
            heard.queue.clear()
    yield heard
    room.stop()


def test_each_change_of_state_is_told(client, server, told):
    client.pause_container(server)
    client.unpause_container(server)
    client.exit(server)
    assert [told.get(timeout=TIMEOUT) for _ in range(3)] == [
        ("1", PAUSED),
        ("1", RESUMED),
        ("1", STOPPED),
    ]


def test_other_containers_are_not_told_of(client, server, told):
    client.create_container("other", {"Image": "busybox:1"})
    client.start_container("other")
    client.exit(server)
    assert told.get(timeout=TIMEOUT) == ("1", STOPPED)


def test_what_an_absent_engine_did_is_told_when_it_is_back(client, server, told):
    """As an engine does that stops: the stream ends, its servers with it."""
    away = errors.Unreachable("gone")
    for _ in range(3):
        client.fail_next("events", away)
    streams, client._streams = client._streams, []
    client.exit(server)
    for stream in streams:
        stream.close()
    assert told.get(timeout=TIMEOUT) == ("1", STOPPED)
    client.start_container(server)
    assert told.get(timeout=TIMEOUT) == ("1", STARTED)


def test_a_server_that_went_away_meanwhile_is_told_as_stopped(client, server, told):
    streams, client._streams = client._streams, []
    client.remove_container(server)
    for stream in streams:
        stream.close()
    assert told.get(timeout=TIMEOUT) == ("1", STOPPED)


def test_an_event_that_nova_cannot_take_does_not_end_the_following(client, server):
    heard = queue.Queue()

    def refuse_once(event):
        heard.put(event.get_transition())
        if heard.qsize() == 1:
            raise RuntimeError("no database")

    room = events.LifecycleEvents(client, refuse_once)
    room.start()
    try:
        for _ in range(200):
            client.restart_container(server, 0)
            if heard.qsize() > 4:
                break
            room._stopping.wait(0.05)
        assert heard.qsize() > 4
    finally:
        room.stop()


def test_a_stop_that_comes_while_the_stream_is_opened_is_no_less_a_stop(client):
    opening, goes_on = threading.Event(), threading.Event()
    events_of = client.events

    def slow(**arguments):
        opening.set()
        assert goes_on.wait(TIMEOUT)
        return events_of(**arguments)

    client.events = slow
    room = events.LifecycleEvents(client, lambda event: None)
    room.start()
    assert opening.wait(TIMEOUT)
    stopping = threading.Thread(target=room.stop, daemon=True)
    stopping.start()
    assert room._stopping.wait(TIMEOUT)
    goes_on.set()
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()
