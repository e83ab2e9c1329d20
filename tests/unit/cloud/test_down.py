# SPDX-License-Identifier: Apache-2.0
"""What ./quickstart down stops, and in which order."""

from __future__ import annotations

import pytest

from cloud import cgroup
from cloud import commands
from cloud import down
from cloud import engine
from cloud import ovn
from cloud import settings
from cloud import state
from cloud import supervisor
from cloud.hosts import host as hosts
from cloud.hosts import namespaces
from cloud.hosts.host import Host
from cloud.install import debian_packages


@pytest.fixture
def happened(tmp_path, monkeypatch):
    """What happens on a machine with three hosts whose services all run, in order."""
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")
    monkeypatch.setattr(settings, "RUN", tmp_path / "run")
    monkeypatch.setattr(settings, "STATE", tmp_path)
    (tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(cgroup, "_TOP", tmp_path / "cgroup")
    monkeypatch.setattr(commands, "run", lambda *_, **__: 0)
    monkeypatch.setattr(debian_packages, "restore_policy", lambda: None)
    monkeypatch.setattr(engine, "servers_on_disk", set)
    monkeypatch.setattr(ovn, "metadata_namespaces", list)

    found = []
    hosts.set_count(3)
    names = ["nova-compute", "dockerd"]
    names += [host.service(name) for host in hosts.others() for name in names]
    states = [{"name": name, "statename": "RUNNING"} for name in names]
    monkeypatch.setattr(supervisor, "running", lambda: True)
    monkeypatch.setattr(supervisor, "states", lambda: states)
    monkeypatch.setattr(supervisor, "shutdown", lambda: None)
    monkeypatch.setattr(
        supervisor, "stop", lambda *names: found.extend(f"stop {n}" for n in names)
    )
    without_power = Host(3).engine
    monkeypatch.setattr(engine, "answers", lambda path: path != without_power)
    monkeypatch.setattr(engine, "servers", lambda path=None: {"uuid": str(path)})
    monkeypatch.setattr(
        engine, "stop", lambda ids, path=None: found.extend(f"servers {i}" for i in ids)
    )
    monkeypatch.setattr(
        namespaces, "remove", lambda host: found.append(f"remove {host.name}")
    )
    return found


def test_servers_of_all_hosts_stop_after_nova_compute_and_before_their_engine(happened):
    down.down(purge=False)
    for suffix, socket in (("", None), ("@docker-host-2", Host(2).engine)):
        order = [f"stop nova-compute{suffix}", f"servers {socket}"]
        order.append(f"stop dockerd{suffix}")
        found = [happened.index(each) for each in order]
        assert found == sorted(found)


def test_an_engine_that_does_not_answer_is_left_out(happened):
    down.down(purge=False)
    assert f"servers {Host(3).engine}" not in happened


def test_the_namespaces_of_all_hosts_are_removed_last(happened):
    down.down(purge=False)
    assert happened[-2:] == ["remove docker-host-2", "remove docker-host-3"]


def test_a_host_without_power_stays_without_it(happened):
    Host(3).turn(on=False)
    down.down(purge=False)
    assert [host.is_on for host in hosts.others()] == [True, False]
