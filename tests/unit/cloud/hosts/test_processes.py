# SPDX-License-Identifier: Apache-2.0
"""The services of hosts."""

from __future__ import annotations

import shlex

import pytest

from cloud import services
from cloud.hosts import host as hosts
from cloud.hosts import processes
from cloud.hosts import ssh
from cloud.hosts.host import Host

HOST = Host(2)


def of_first_host():
    # sshd is there as soon as there are others.
    found = (*services.infrastructure(), *services.openstack(), ssh.daemon(Host(1)))
    return {service.name: service for service in found}


def names(found):
    return {service.name.partition("@")[0] for service in found}


@pytest.fixture(params=range(len(processes.services_of(HOST))))
def service(request):
    return processes.services_of(HOST)[request.param]


@pytest.fixture
def first(service):
    """The same service of the first host."""
    return of_first_host()[service.name.partition("@")[0]]


def test_a_host_has_an_engine_a_switch_and_what_runs_servers():
    assert {
        service.name.partition("@")[0] for service in processes.services_of(HOST)
    } == {
        *("containerd", "dockerd"),
        *("ovsdb-server", "ovs-vswitchd", "ovn-controller"),
        *("neutron-ovn-agent", "nova-compute", "sshd"),
    }


def test_a_service_is_named_after_its_host(service):
    assert service.name.endswith("@docker-host-2")


def test_a_service_runs_in_the_namespaces_of_its_host(service):
    words = shlex.split(service.command)
    assert words[:3] == [
        "/usr/bin/nsenter",
        "--net=/run/netns/quickstart-2",
        f"--mount={HOST.mounts}",
    ]


def test_a_service_has_the_user_of_the_first_host_once_it_is_inside(service, first):
    # Only root enters namespaces.
    assert service.user == "root"
    words = shlex.split(service.command)[3:]
    if first.user == "root":
        assert "/usr/bin/setpriv" not in words
    else:
        assert words[:4] == [
            "/usr/bin/setpriv",
            f"--reuid={first.user}",
            f"--regid={first.user}",
            "--init-groups",
        ]
        assert service.env["HOME"] == f"{HOST.data}/nova"


def test_a_service_stops_in_the_same_order_as_on_the_first_host(service, first):
    assert service.priority == first.priority
    assert service.stop_signal == first.stop_signal


def test_no_service_listens_on_a_port(service):
    assert service.port is None


def test_the_engine_shares_nothing_with_that_of_the_first_host():
    known = {each.name: each for each in processes.services_of(HOST)}
    other = set(shlex.split(known[HOST.service("dockerd")].command))
    first = set(shlex.split(of_first_host()["dockerd"].command))
    shared = {word.partition("=")[0] for word in first & other}
    assert not shared & {
        *("--host", "--containerd", "--data-root", "--exec-root", "--pidfile"),
        *("--bridge", "--cgroup-parent"),
    }


def test_servers_arrive_at_each_of_several_hosts():
    assert "sshd" not in [service.name for service in services.services()]
    hosts.set_count(2)
    found = {service.name for service in services.services()}
    assert {"sshd", "sshd@docker-host-2"} < found


def test_all_hosts_have_services_with_or_without_power():
    hosts.set_count(3)
    Host(3).turn(on=False)
    found = [service.name for service in services.services()]
    assert len(found) == len(set(found))
    assert {"nova-compute@docker-host-2", "nova-compute@docker-host-3"} < set(found)
