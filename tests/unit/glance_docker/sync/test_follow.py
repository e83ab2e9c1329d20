# SPDX-License-Identifier: Apache-2.0
"""Glance follows the engine's changes, and recovers from failures."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from docker_engine import errors
from glance_docker.sync import follow
from glance_docker.sync.follow import Follower

TIMEOUT = 10  # seconds


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    monkeypatch.setattr(follow, "RETRY_INTERVAL", 0.05)
    monkeypatch.setattr(follow, "SETTLE_INTERVAL", 0.05)


@contextlib.contextmanager
def following(engine, reconciler):
    follower = Follower(engine, reconciler, refresh_interval=300)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        yield thread
    finally:
        follower.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def eventually(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def active(server):
    return sorted(i["name"] for i in server.images.values() if i["status"] == "active")


class TestFollower:
    def test_changes_on_the_engine_show_at_once(self, engine, server, reconciler):
        engine.load("a:1")
        with following(engine, reconciler):
            eventually(lambda: active(server) == ["a:1"])
            engine.tag_image("a:1", "b", "1")
            eventually(lambda: active(server) == ["a:1", "b:1"])
            engine.remove_image("a:1")
            eventually(lambda: active(server) == ["b:1"])

    def test_it_catches_up_after_the_engine_was_away(self, engine, server, reconciler):
        engine.load("a:1")
        with following(engine, reconciler):
            eventually(lambda: active(server) == ["a:1"])
            engine.away = errors.Unreachable("gone")
            for stream in engine._streams:
                stream.close()
            time.sleep(0.2)
            assert active(server) == ["a:1"]
            engine.away = None
            # The stream may not be up again: nobody may see this event.
            engine.tag_image("a:1", "b", "1")
            eventually(lambda: active(server) == ["a:1", "b:1"])
            eventually(lambda: engine._streams)
            engine.tag_image("a:1", "c", "1")
            eventually(lambda: active(server) == ["a:1", "b:1", "c:1"])

    def test_it_catches_up_after_glance_was_away(self, engine, server, reconciler):
        server.fails = lambda method, path: 503
        engine.load("a:1")
        with following(engine, reconciler):
            eventually(lambda: len(server.calls) > 2)
            server.fails = lambda method, path: 0
            eventually(lambda: active(server) == ["a:1"])

    def test_a_rejected_location_is_tried_again(self, engine, server, reconciler):
        server.fails = lambda method, path: 503 if "locations" in path else 0
        engine.load("a:1")
        with following(engine, reconciler):
            eventually(lambda: any("locations" in call for call in server.calls))
            server.fails = lambda method, path: 0
            eventually(lambda: active(server) == ["a:1"])

    def test_an_unexpected_error_does_not_stop_it(self, engine, server, reconciler):
        engine.fail_next("list_images", ZeroDivisionError())
        engine.load("a:1")
        with following(engine, reconciler):
            eventually(lambda: active(server) == ["a:1"])

    def test_it_can_be_stopped_while_the_engine_is_away(self, engine, reconciler):
        engine.away = errors.Unreachable("gone")
        with following(engine, reconciler):
            time.sleep(0.2)

    def test_trouble_is_logged_once_while_it_lasts(self, engine, reconciler, caplog):
        engine.away = errors.Unreachable("gone")
        with following(engine, reconciler):
            time.sleep(0.3)
            engine.away = None
            eventually(lambda: "can be reconciled" in caplog.text)
        assert caplog.text.count("Cannot reconcile Glance") == 1
        assert caplog.text.count("Lost the engine's event stream") == 1
