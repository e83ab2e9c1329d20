# SPDX-License-Identifier: Apache-2.0
"""Lifecycle events that Nova receives for the engine's events."""

from __future__ import annotations

import queue
import threading

import pytest
from nova.compute import power_state
from nova.virt import event as virtevent

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.container import init
from nova_docker.container import naming
from nova_docker.host import events
from nova_docker.host import reminders
from tests import archives

TIMEOUT = 10
STARTED = virtevent.EVENT_LIFECYCLE_STARTED
STOPPED = virtevent.EVENT_LIFECYCLE_STOPPED
PAUSED = virtevent.EVENT_LIFECYCLE_PAUSED
RESUMED = virtevent.EVENT_LIFECYCLE_RESUMED


def never(uuid):
    raise AssertionError(f"{uuid} has not rebooted")


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
def system(client):
    """A server with systemd, whose image forges an attribute of events."""
    labels = {naming.UUID_LABEL: "2", init.LABEL: init.SYSTEMD, "exitCode": "0"}
    client.create_container("nova-2", {"Image": "busybox:1", "Labels": labels})
    client.start_container("nova-2")
    return "nova-2"


@pytest.fixture
def reported(client, server, monkeypatch):
    """The events that Nova receives, as a queue; the thread is running."""
    monkeypatch.setattr(events, "RECONNECT_INTERVAL", 0.01)
    monkeypatch.setattr(reminders, "AGAIN", ())
    received = queue.Queue()
    follower = events.LifecycleEvents(
        client,
        lambda event: received.put((event.get_instance_uuid(), event.get_transition())),
        lambda uuid: received.put((uuid, "may have rebooted")),
    )
    received.follower = follower
    follower.start()
    # The first event shows that the stream is open.
    client.start_container(server)
    while True:
        try:
            assert received.get(timeout=0.5) == ("1", STARTED)
            break
        except queue.Empty:
            client.restart_container(server, 0)
            received.queue.clear()
    yield received
    follower.stop()


def test_each_change_of_state_is_reported(client, server, reported):
    client.pause_container(server)
    client.unpause_container(server)
    client.exit(server)
    assert [reported.get(timeout=TIMEOUT) for _ in range(3)] == [
        ("1", PAUSED),
        ("1", RESUMED),
        ("1", STOPPED),
    ]


@pytest.mark.parametrize("code", [129, 130])
def test_a_server_with_systemd_that_ends_may_have_rebooted(
    client, system, reported, code
):
    client.exit(system, code)
    assert reported.get(timeout=TIMEOUT) == ("2", "may have rebooted")
    assert reported.empty()
    reported.follower.report_stop("2")
    assert reported.get(timeout=TIMEOUT) == ("2", STOPPED)


def test_a_reboot_while_the_engine_was_away_is_noticed(client, system, reported):
    streams, client._streams = client._streams, []
    client.exit(system, 129)
    for stream in streams:
        stream.close()
    assert reported.get(timeout=TIMEOUT) == ("2", "may have rebooted")


def test_an_exit_soon_after_the_start_is_reported_again(
    client, server, reported, monkeypatch
):
    monkeypatch.setattr(reminders, "AGAIN", (0.01, 0.02))
    client.exit(server)
    for _ in range(3):
        assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)


def test_a_later_exit_is_reported_once(client, server, reported, monkeypatch):
    monkeypatch.setattr(reminders, "AGAIN", (0,))
    monkeypatch.setattr(events, "_SOON", 0)
    client.exit(server)
    client.start_container(server)
    assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)
    assert reported.get(timeout=TIMEOUT) == ("1", STARTED)


def test_other_containers_are_not_reported(client, server, reported):
    client.create_container("other", {"Image": "busybox:1"})
    client.start_container("other")
    client.exit(server)
    assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)


def test_events_missed_while_the_engine_was_away_are_reported_afterwards(
    client, server, reported
):
    """When an engine shuts down, the stream ends before the servers do."""
    away = errors.Unreachable("gone")
    for _ in range(3):
        client.fail_next("events", away)
    streams, client._streams = client._streams, []
    client.exit(server)
    for stream in streams:
        stream.close()
    assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)
    client.start_container(server)
    assert reported.get(timeout=TIMEOUT) == ("1", STARTED)


@pytest.mark.parametrize("failing", ["events", "list_containers"])
def test_an_exit_is_reported_if_the_engine_was_away_at_the_start(
    client, server, monkeypatch, failing
):
    monkeypatch.setattr(events, "RECONNECT_INTERVAL", 0.01)
    received = queue.Queue()
    follower = events.LifecycleEvents(client, received.put, never)
    client.fail_next(failing, errors.Unreachable("gone"))
    follower.start()
    try:
        found = received.get(timeout=TIMEOUT)
        assert (found.get_instance_uuid(), found.get_transition()) == ("1", STOPPED)
    finally:
        follower.stop()


def test_an_engine_that_stays_away_is_logged_once_and_so_is_its_return(
    client, server, reported, caplog
):
    caplog.set_level("INFO", events.LOG.logger.name)
    for _ in range(3):
        client.fail_next("events", errors.Unreachable("gone"))
    streams, client._streams = client._streams, []
    client.exit(server)
    for stream in streams:
        stream.close()
    assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)
    assert caplog.text.count("Lost the Docker engine's event stream") == 1
    assert caplog.text.count("event stream again") == 1


def test_a_server_removed_during_a_break_is_reported_as_stopped(
    client, server, reported
):
    streams, client._streams = client._streams, []
    client.remove_container(server)
    for stream in streams:
        stream.close()
    assert reported.get(timeout=TIMEOUT) == ("1", STOPPED)


def test_an_event_that_nova_cannot_handle_does_not_stop_the_others(client, server):
    received = queue.Queue()

    def refuse_once(event):
        received.put(event.get_transition())
        if received.qsize() == 1:
            raise RuntimeError("no database")

    follower = events.LifecycleEvents(client, refuse_once, never)
    follower.start()
    try:
        for _ in range(200):
            client.restart_container(server, 0)
            if received.qsize() > 4:
                break
            follower._stopping.wait(0.05)
        assert received.qsize() > 4
    finally:
        follower.stop()


def test_stop_also_works_while_the_stream_is_being_opened(client):
    opening, proceed = threading.Event(), threading.Event()
    events_of = client.events

    def slow(**arguments):
        opening.set()
        assert proceed.wait(TIMEOUT)
        return events_of(**arguments)

    client.events = slow
    follower = events.LifecycleEvents(client, lambda event: None, never)
    follower.start()
    assert opening.wait(TIMEOUT)
    stopping = threading.Thread(target=follower.stop, daemon=True)
    stopping.start()
    assert follower._stopping.wait(TIMEOUT)
    proceed.set()
    stopping.join(TIMEOUT)
    assert not stopping.is_alive()


RUNNING, SHUTDOWN = power_state.RUNNING, power_state.SHUTDOWN


@pytest.mark.parametrize(
    ("seen", "found", "transitions"),
    [
        ({}, {}, {}),
        ({"1": RUNNING}, {"1": RUNNING}, {}),
        ({"1": SHUTDOWN}, {"1": RUNNING}, {"1": STARTED}),
        ({}, {"1": RUNNING}, {"1": STARTED}),
        ({"1": RUNNING}, {"1": power_state.PAUSED}, {"1": PAUSED}),
        ({"1": RUNNING}, {"1": SHUTDOWN}, {"1": STOPPED}),
        ({"1": RUNNING}, {}, {"1": STOPPED}),
        ({"1": RUNNING}, {"1": power_state.CRASHED}, {"1": STOPPED}),
        # Nova may have dropped the event while the engine was shutting down.
        ({"1": SHUTDOWN}, {"1": SHUTDOWN}, {"1": STOPPED}),
        ({"1": RUNNING}, {"1": power_state.NOSTATE}, {}),
    ],
)
def test_after_a_break_all_but_servers_that_still_run_are_reported(
    seen, found, transitions
):
    assert events.missed(seen, found) == transitions
