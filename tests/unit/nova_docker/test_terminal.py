# SPDX-License-Identifier: Apache-2.0
"""The choice of a server's terminal, and the life of a shell."""

from __future__ import annotations

import collections
import contextlib
import os
import socket

import pytest

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import terminal
from nova_docker.container import naming
from nova_docker.container import state
from tests import archives
from tests import samples

UUID = samples.uuid()
NAME = naming.name_of(UUID)


@pytest.mark.parametrize(
    ("words", "interactive"),
    [
        (["/bin/sh"], True),
        (["bash", "-l"], True),
        (["bash", "--norc"], True),
        (["/sbin/init"], True),
        (["/lib/systemd/systemd", "--system"], True),
        (["sh", "-c", "httpd"], False),
        (["bash", "-lc", "httpd"], False),
        (["sh", "/start"], False),
        (["/usr/sbin/sshd", "-D"], False),
    ],
)
def test_shells_and_logins_are_interactive(words, interactive):
    found = {"Path": words[0], "Args": words[1:], "Config": {"Labels": {}}}
    assert terminal.has_interactive_process(found) == interactive
    for choice in ("attach", "shell"):
        found["Config"]["Labels"] = {terminal.CONSOLE_LABEL: choice}
        assert terminal.has_interactive_process(found) == (choice == "attach")


@pytest.fixture
def client():
    """An engine with one running server, whose image asks for a shell."""
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["image"])])
    labels = {terminal.CONSOLE_LABEL: "shell"}
    mock.create_container(NAME, {"Image": "image", "Labels": labels})
    mock.start_container(NAME)
    return mock


@pytest.fixture
def exec_that_prints(client, monkeypatch):
    """Makes every exec print something, as the engine's execs do."""

    def prints(output):
        def start_exec(exec_id, *, tty):
            ours, theirs = socket.socketpair()
            with theirs:
                theirs.sendall(output)
            return ours

        monkeypatch.setattr(client, "start_exec", start_exec)

    return prints


def test_a_shell_is_live_until_it_is_closed(client, exec_that_prints):
    exec_that_prints(terminal.ASK_SIZE)
    with contextlib.closing(terminal.open_terminal(client, UUID)) as opened:
        assert not opened.shared
        assert len(terminal._Shell._live) == 1
    assert terminal._Shell._live == set()


def test_a_terminal_is_closed_even_if_its_shell_cannot_be_ended(
    client, exec_that_prints
):
    exec_that_prints(terminal.ASK_SIZE)
    opened = terminal.open_terminal(client, UUID)
    client.fail_next("inspect_exec", KeyError("Running"))
    with pytest.raises(KeyError):
        opened.close()
    assert opened.stream.fileno() == -1
    assert not terminal._Shell._live


def test_an_image_without_a_shell_shows_the_first_process(client, exec_that_prints):
    exec_that_prints(b"OCI runtime exec failed")
    with contextlib.closing(terminal.open_terminal(client, UUID)) as opened:
        assert opened.shared
    assert terminal._Shell._live == set()


def test_a_shell_that_the_engine_does_not_start_is_forgotten(client):
    client.fail_next("start_exec", errors.for_status(500, "no space left"))
    with pytest.raises(errors.EngineError):
        terminal.open_terminal(client, UUID)
    assert terminal._Shell._live == set()


@pytest.mark.parametrize(
    ("found", "detached"),
    [
        ({}, True),
        ({"ExitCode": 0}, False),
        ({"ExitCode": None}, False),
        ({"Pid": 0}, False),
        ({"ContainerID": "of another container"}, False),
    ],
)
def test_a_shell_that_docker_takes_for_ended_is_found(found, detached):
    # Every process has a control group whose path begins with a slash.
    state = {"ExitCode": 126, "Pid": os.getpid(), "ContainerID": ":/"} | found
    assert terminal._is_detached(state) == detached


def test_a_stopped_or_paused_server_has_no_terminal(client):
    client.pause_container(NAME)
    with pytest.raises(terminal.Unavailable, match="is paused"):
        terminal.open_terminal(client, UUID)
    client.unpause_container(NAME)
    client.exit(NAME)
    with pytest.raises(terminal.Unavailable, match="is not running"):
        terminal.open_terminal(client, UUID)
    client.remove_container(NAME)
    with pytest.raises(terminal.Unavailable, match="is not running"):
        terminal.open_terminal(client, UUID)


def test_a_server_with_too_many_commands_gets_no_shell(client, monkeypatch):
    inspect = client.inspect_container

    def with_execs(ref):
        return inspect(ref) | {"ExecIDs": ["0"] * state.MAX_EXECS}

    monkeypatch.setattr(client, "inspect_container", with_execs)
    with pytest.raises(terminal.Unavailable, match="Too many commands"):
        terminal.open_terminal(client, UUID)
    # The first process needs no command.
    monkeypatch.setattr(terminal, "has_interactive_process", lambda found: True)
    terminal.open_terminal(client, UUID).close()


def test_shells_that_were_told_to_end_are_forgotten_in_time(client, monkeypatch):
    monkeypatch.setattr(terminal, "_MAX_TOLD", 2)
    monkeypatch.setattr(terminal, "_pid_in_container", lambda pid: "1")
    told = collections.OrderedDict()
    monkeypatch.setattr(terminal._Shell, "_told", told)
    shell = terminal._Shell.__new__(terminal._Shell)
    shell._client, shell._found = client, client.inspect_container(NAME)
    for number in "1", "2", "3":
        shell._hang_up({"ID": number, "Running": True, "Pid": 1})
    assert list(told) == ["2", "3"]
