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


def test_a_server_with_a_user_is_frozen_while_it_is_looked_at(start):
    assert start("www") == [
        ("check", None),
        ("kill_container", "61"),
        ("check", None),
        ("create_exec", {**CONFIG, "User": "0"}),
    ]


def test_a_server_is_not_left_frozen_if_the_command_fails(client, monkeypatch):
    sent = []
    monkeypatch.setattr(accounts, "check_files", lambda *args: None)
    monkeypatch.setattr(client, "kill_container", lambda ref, sig: sent.append(sig))
    client.fail_next("create_exec", errors.Timeout("no answer"))
    found = {"Id": "1", "Config": {"User": "www"}}
    with pytest.raises(errors.Timeout):
        root_exec.start(client, found, CONFIG, tty=False)
    assert sent == ["61", "60"]
