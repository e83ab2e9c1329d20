# SPDX-License-Identifier: Apache-2.0
"""Commands in a server: what the engine is asked, and in which order."""

from __future__ import annotations

import pytest

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import accounts
from nova_docker import root_exec
from tests import archives

CONFIG = {"Cmd": ["true"]}


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["busybox:latest"])])
    return mock


@pytest.fixture
def start(client, monkeypatch):
    """Starts a command in a container with this user; returns the calls made."""

    def run(user):
        made = client.create_container("c1", {"Image": "busybox:latest", "User": user})
        client.start_container(made)
        calls = []
        for name in ("kill_container", "create_exec"):
            real = getattr(client, name)

            def call(ref, argument, name=name, real=real):
                calls.append((name, argument))
                return real(ref, argument)

            monkeypatch.setattr(client, name, call)
        monkeypatch.setattr(
            accounts, "check_files", lambda *args: calls.append(("check", None))
        )
        _, stream = root_exec.start(
            client, client.inspect_container(made), CONFIG, tty=False
        )
        stream.close()
        return calls

    return run


def test_a_command_names_no_user_if_the_image_has_none(start):
    assert start("") == [("create_exec", CONFIG)]


def test_a_server_with_a_user_is_frozen_before_it_is_looked_at(start):
    assert start("www") == [
        ("kill_container", "61"),
        ("check", None),
        ("create_exec", {**CONFIG, "User": "0"}),
    ]


@pytest.fixture
def held(client, monkeypatch):
    """A running container whose image has a user; and the signals sent to it."""
    made = client.create_container("c1", {"Image": "busybox:latest", "User": "www"})
    client.start_container(made)
    sent = []
    monkeypatch.setattr(accounts, "check_files", lambda *args: None)
    monkeypatch.setattr(client, "kill_container", lambda ref, sig: sent.append(sig))
    return client.inspect_container(made), sent


def test_a_server_is_not_left_frozen_if_the_command_fails(client, held):
    found, sent = held
    client.fail_next("create_exec", errors.Timeout("no answer"))
    with pytest.raises(errors.Timeout):
        root_exec.start(client, found, CONFIG, tty=False)
    assert sent == ["61", "60"]


@pytest.mark.parametrize("change", ["pause_container", "exit"])
def test_a_server_that_was_paused_or_stopped_since_is_left_alone(client, held, change):
    found, sent = held
    getattr(client, change)(found["Id"])
    with pytest.raises(errors.Conflict):
        root_exec.start(client, found, CONFIG, tty=False)
    assert sent == []


@pytest.mark.parametrize("slow", ["check_files", "create_exec"])
def test_nothing_is_started_if_the_freeze_may_end_first(
    client, held, monkeypatch, slow
):
    found, sent = held
    now = 0.0
    monkeypatch.setattr(root_exec.time, "monotonic", lambda: now)
    module = accounts if slow == "check_files" else client
    real = getattr(module, slow)

    def takes_four_seconds(*args):
        nonlocal now
        now += 4 * bool(sent)
        return real(*args)

    monkeypatch.setattr(module, slow, takes_four_seconds)
    monkeypatch.setattr(client, "start_exec", None)
    with pytest.raises(accounts.Unreadable, match="too slow"):
        root_exec.start(client, found, CONFIG, tty=False)
    assert sent == ["61", "60"]
