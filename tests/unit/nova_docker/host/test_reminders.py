# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import queue
import threading

import pytest

from nova_docker.host import reminders
from nova_docker.host.reminders import Reminders

TIMEOUT = 10  # seconds


@pytest.fixture
def reported() -> queue.Queue[str]:
    return queue.Queue()


@pytest.fixture
def again(monkeypatch):
    monkeypatch.setattr(reminders, "AGAIN", (0.01, 0.02))


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "docker-reminders"]


def test_an_exit_is_reported_again_and_again(reported, again):
    Reminders(reported.put).add("1")
    assert [reported.get(timeout=TIMEOUT) for _ in range(2)] == ["1", "1"]


def test_a_server_that_has_started_or_is_removed_is_left_out(reported, again):
    found = Reminders(reported.put)
    with found._condition:  # so that none is due before
        found.add("1")
        found.add("2")
        found.drop("1")
    assert [reported.get(timeout=TIMEOUT) for _ in range(2)] == ["2", "2"]
    assert reported.empty()


def test_many_exits_need_one_thread(reported, monkeypatch):
    monkeypatch.setattr(reminders, "AGAIN", (60,))
    found = Reminders(reported.put)
    for number in range(50):
        found.add(str(number))
    [thread] = threads()
    found.stop()
    thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert reported.empty()


def test_exits_are_reported_after_a_pause(reported, again):
    found = Reminders(reported.put)
    for uuid in ("1", "2"):
        found.add(uuid)
        assert [reported.get(timeout=TIMEOUT) for _ in range(2)] == [uuid, uuid]
        for thread in threads():
            thread.join(TIMEOUT)
