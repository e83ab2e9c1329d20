# SPDX-License-Identifier: Apache-2.0
"""The keys by which servers move between hosts."""

from __future__ import annotations

import os
import pwd

import pytest

from cloud import commands
from cloud.hosts import host as hosts
from cloud.hosts import ssh
from cloud.hosts.host import Host


@pytest.fixture(autouse=True)
def without_programs(monkeypatch):
    """Makes keys without ssh-keygen, and changes no owners."""

    def run(program, *words):
        if program == "ssh-keygen":
            path = words[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("secret")
            path.with_name(f"{path.name}.pub").write_text(
                f"ssh-ed25519 {path.parent.name}-{path.name} comment\n"
            )

    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(os, "chown", lambda *args: None)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: pwd.getpwuid(0))


def test_a_cloud_with_one_host_has_no_keys():
    ssh.write()
    assert not Host(1).etc.exists()


def test_a_key_runs_one_command_for_one_host():
    hosts.set_count(3)
    ssh.write()
    first, second = (Host(2).etc / "authorized_keys").read_text().splitlines()
    options, key = first.split('" ')
    assert options.startswith('restrict,command="')
    assert options.endswith(
        f"nova-docker-receive {Host(2).data}/nova/docker-receive.sock docker-host"
    )
    assert key == "ssh-ed25519 1-key comment"
    assert second.endswith('docker-host-3" ssh-ed25519 3-key comment')


def test_hosts_know_each_other():
    hosts.set_count(2)
    ssh.write()
    lines = (Host(1).etc.parent / "known_hosts").read_text().splitlines()
    assert lines == [
        "[172.24.6.1]:2222 ssh-ed25519 1-host_key",
        "[172.24.6.2]:2222 ssh-ed25519 2-host_key",
    ]


def test_keys_stay_when_the_cloud_is_brought_up_again(monkeypatch):
    hosts.set_count(2)
    ssh.write()
    (Host(1).etc / "key").write_text("kept")
    ssh.write()
    assert (Host(1).etc / "key").read_text() == "kept"
