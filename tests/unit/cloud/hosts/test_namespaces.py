# SPDX-License-Identifier: Apache-2.0
"""Which processes belong to a host."""

from __future__ import annotations

import os

import pytest

from cloud import settings
from cloud.hosts import namespaces
from cloud.hosts.host import Host

# No cloud on the machine that runs the tests has this host.
HOST = Host(99)


@pytest.fixture
def group(tmp_path):
    """The control group of the host's servers."""
    directory = tmp_path / "cgroup" / settings.CGROUP / "host-99"
    directory.mkdir(parents=True)
    return directory


def test_processes_in_the_mount_namespace_belong_to_the_host():
    HOST.mounts.parent.mkdir(parents=True)
    HOST.mounts.symlink_to("/proc/self/ns/mnt")
    assert os.getpid() in namespaces.processes(HOST)


def test_a_file_that_keeps_no_namespace_names_no_process():
    HOST.mounts.parent.mkdir(parents=True)
    HOST.mounts.touch()
    assert namespaces.processes(HOST) == set()


def test_servers_belong_to_the_host_wherever_their_namespaces_are(group):
    (group / "server").mkdir()
    (group / "server/cgroup.procs").write_text("4000001\n4000002\n")
    assert namespaces.processes(HOST) == {4000001, 4000002}


def test_removing_a_host_thaws_no_server_of_another_one(group, monkeypatch):
    frozen, beside = group / "freezer.state", group.parent / "freezer.state"
    for file in frozen, beside:
        file.write_text("FROZEN")
    namespaces.remove(HOST)
    assert (frozen.read_text(), beside.read_text()) == ("THAWED", "FROZEN")
