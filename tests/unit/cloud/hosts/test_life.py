# SPDX-License-Identifier: Apache-2.0
"""How hosts are added and removed, lose their power and get it back."""

from __future__ import annotations

import pathlib
import signal

import pytest

from cloud import engine
from cloud import open_vswitch
from cloud import settings
from cloud import supervisor
from cloud.cinder_loop import devices
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts import life
from cloud.hosts import namespaces
from cloud.hosts.host import Host
from cloud.state import state

HOST = Host(2)
COMPUTE = "nova-compute@docker-host-2"


@pytest.fixture(autouse=True)
def machine(programs, tmp_path, monkeypatch):
    """What happens on the machine, in order; it has one process of the host."""
    happened = programs.ran
    running = {4000001}

    def kill(pid, number):
        happened.append(f"{number.name} {pid}")
        if number == signal.SIGKILL:
            running.discard(pid)

    def record(word):
        return lambda *names: happened.append(" ".join((word, *map(str, names))))

    monkeypatch.setattr("os.kill", kill)
    monkeypatch.setattr(namespaces, "processes", lambda host: set(running))
    monkeypatch.setattr(namespaces, "make", lambda host: happened.append("namespaces"))
    monkeypatch.setattr(open_vswitch, "interface", tmp_path.joinpath)
    monkeypatch.setattr(supervisor, "start", lambda each: record("start")(each.name))
    monkeypatch.setattr(supervisor, "request_stop", record("request_stop"))
    monkeypatch.setattr(supervisor, "stop", record("stop"))
    states = [{"name": COMPUTE, "statename": "RUNNING"}]
    monkeypatch.setattr(supervisor, "states", lambda: states)
    monkeypatch.setattr(engine, "answers", lambda path: False)
    monkeypatch.setattr(devices, "all_devices", list)
    hosts.set_count(2)
    return happened


def index(happened, part):
    [found] = [number for number, line in enumerate(happened) if part in line]
    return found


@pytest.mark.parametrize("number", [-1, 0, hosts.MOST + 1])
def test_a_number_of_hosts_that_is_impossible_is_refused(number):
    with pytest.raises(QuickstartError, match=f"1 to 8 hosts, not {number}$"):
        life.check(number)


@pytest.mark.parametrize("number", [1, 2, hosts.MOST])
def test_other_numbers_are_accepted(number):
    life.check(number)


def test_an_engine_of_somebody_else_serves_one_host_only():
    state.set("engine", "/var/run/docker.sock")
    life.check(1)
    with pytest.raises(QuickstartError, match=r"/var/run/docker\.sock, which .* not"):
        life.check(2)


def state_directory(monkeypatch, length):
    """Give the cloud a state directory, and return the longest path of a socket."""
    top = pathlib.Path("/", "x" * (length - 1))
    monkeypatch.setattr(settings, "STATE", top)
    return str(top / "run/hosts/8/docker/exec/libnetwork/0123456789ab.sock")


def test_the_kernel_accepts_the_paths_of_a_hosts_sockets(
    monkeypatch,
):
    assert len(state_directory(monkeypatch, 54)) <= 107
    life.check(hosts.MOST)


def test_a_state_directory_with_a_longer_name_is_for_one_host_only(monkeypatch):
    assert len(state_directory(monkeypatch, 55)) > 107
    life.check(1)
    with pytest.raises(QuickstartError, match="at most 54 characters in NOVA_DOCKER"):
        life.check(2)


def test_the_first_up_already_refuses_hosts_beside_such_an_engine(monkeypatch):
    monkeypatch.setattr(engine, "answers", lambda path: path == engine.USUAL_SOCKET)
    monkeypatch.setattr(engine, "info", lambda path: {"Runtimes": {"nova": {}}})
    with pytest.raises(QuickstartError, match="can have one host only"):
        life.check(2)


def test_tunnels_are_ready_before_ovn_uses_them_and_the_engine_before_nova(machine):
    life.start(HOST)
    order = [
        *("namespaces", "start ovs-vswitchd@", "ovn-encap-ip=172.24.7.2"),
        *("start ovn-controller@", "start dockerd@", f"start {COMPUTE}"),
        "cloud.resources.host wait docker-host-2",
    ]
    found = [index(machine, part) for part in order]
    assert found == sorted(found)


def test_no_process_sees_the_others_end_when_the_power_is_cut(machine):
    life.kill(HOST)
    order = ("SIGSTOP 4000001", "request_stop ", "SIGKILL 4000001")
    found = [index(machine, part) for part in order]
    assert found == sorted(found)


def test_a_power_cut_leaves_the_disk_and_nothing_else():
    for directory in HOST.data, HOST.run:
        directory.mkdir(parents=True)
    life.kill(HOST)
    assert not HOST.is_on
    assert HOST.data.exists()
    assert not HOST.run.exists()


def test_the_power_of_a_host_can_be_cut_twice():
    life.kill(HOST)
    life.kill(HOST)
    assert not HOST.is_on


def test_a_host_that_has_power_again_finds_its_networks(machine):
    HOST.turn(on=False)
    life.power(HOST)
    assert HOST.is_on
    assert index(machine, "ip link add nd-hosts") < index(machine, f"start {COMPUTE}")


def test_a_host_with_servers_is_not_removed(machine, programs):
    HOST.data.mkdir(parents=True)
    programs.failing.add("cloud.resources.host")
    with pytest.raises(QuickstartError):
        life.forget(HOST)
    assert HOST.data.exists()
    assert not [line for line in machine if line.startswith(("stop", "SIGKILL"))]


def test_nothing_is_left_of_a_host_that_is_removed(machine):
    for directory in HOST.data, HOST.run, HOST.etc:
        directory.mkdir(parents=True)
    life.forget(HOST)
    assert index(machine, "host retire docker-host-2") < index(machine, "SIGKILL")
    assert "cloud.resources.host forget docker-host-2" in machine
    assert any("chassis-del docker-host-2" in line for line in machine)
    assert not any(path.exists() for path in (HOST.data, HOST.run, HOST.etc))


def test_the_next_host_with_the_number_of_a_removed_one_has_power():
    HOST.turn(on=False)
    life.forget(HOST)
    assert HOST.is_on


def test_only_the_disks_of_the_host_are_detached(machine, monkeypatch):
    found = [("/dev/loop1", HOST.data / "nova/disk"), ("/dev/loop2", HOST.data.parent)]
    monkeypatch.setattr(devices, "all_devices", lambda: found)
    life.kill(HOST)
    detached = [line for line in machine if line.startswith("losetup")]
    assert detached == ["losetup --detach /dev/loop1"]
