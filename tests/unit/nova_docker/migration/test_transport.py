# SPDX-License-Identifier: Apache-2.0
"""The connections to other hosts, with a stand-in for ssh, and to the daemon."""

from __future__ import annotations

import os
import socket

import pytest
from nova import conf as nova_conf
from nova import exception

from nova_docker import conf
from nova_docker.migration import transport

CONF = nova_conf.CONF
conf.register_opts(CONF)


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """Replaces ssh by a shell script; returns the arguments that it was called with."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    log = tmp_path / "log"

    def write(body):
        path = tmp_path / "ssh"
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {log}\n{body}\n')
        path.chmod(0o755)
        return lambda: log.read_text().splitlines()

    return write


@pytest.fixture
def ssh_config():
    CONF.set_override("ssh_config", "/etc/nova/ssh.conf", "docker")
    yield
    CONF.clear_override("ssh_config", "docker")


def test_ssh_runs_one_command_and_asks_nothing(ssh):
    called = ssh("exec cat")
    with transport.connected("192.0.2.7") as channel:
        channel.tell(hello=1)
        assert channel.hear() == {"hello": 1}
    words = called()
    assert words[-3:] == ["--", "192.0.2.7", "nova-docker-receive"]
    assert "BatchMode=yes" in words
    assert "-F" not in words


def test_ssh_gets_its_configuration(ssh, ssh_config):
    called = ssh("exec cat")
    with transport.connected("192.0.2.7"):
        pass
    assert called()[:2] == ["-F", "/etc/nova/ssh.conf"]


def test_what_ssh_prints_is_the_reason(ssh):
    ssh("echo 'nova@192.0.2.7: Permission denied (publickey).' >&2; exit 255")
    with (
        pytest.raises(
            exception.MigrationError,
            match=r"ssh to 192\.0\.2\.7: nova@.*denied \(publickey\)\.; the connection",
        ),
        transport.connected("192.0.2.7") as channel,
    ):
        channel.hear()


def test_an_ssh_that_does_not_end_is_ended(ssh, monkeypatch):
    monkeypatch.setattr(transport, "_END_SECONDS", 0.1)
    ssh("exec sleep 60")
    with transport.connected("192.0.2.7"):
        pass


def test_other_errors_stay_as_they_are(ssh):
    ssh("exec cat")
    with (
        pytest.raises(exception.MigrationPreCheckError),
        transport.connected("192.0.2.7"),
    ):
        raise exception.MigrationPreCheckError(reason="no")


def test_the_privileged_daemon_is_met():
    def work(address):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(address)
            stream.sendall(b"data")

    with transport.meeting(work) as (stream, finish):
        assert stream.recv(10) == b"data"
        finish()


def test_why_the_privileged_daemon_does_not_come_is_said_at_once():
    def work(address):
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"), transport.meeting(work):
        pass


def test_why_the_privileged_daemon_takes_no_more_is_said():
    def work(address):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(address)
        raise OSError("tar: no space")

    with (
        pytest.raises(OSError, match="tar: no space"),
        transport.meeting(work) as (stream, _finish),
    ):
        stream.sendall(bytes(64 << 20))


def test_the_daemons_work_has_ended_after_a_failure():
    ended = []

    def work(address):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(address)
            stream.recv(1)
        ended.append(True)

    with pytest.raises(ZeroDivisionError), transport.meeting(work):
        1 / 0  # noqa: B018
    assert ended
