# SPDX-License-Identifier: Apache-2.0
"""The names, files, addresses and ids of hosts."""

from __future__ import annotations

import itertools

import pytest
from oslo_config import cfg

from cloud import settings
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts.host import Host
from nova_docker import conf

ALL = [Host(number) for number in range(2, hosts.MOST + 1)]


def test_a_new_cloud_has_this_machine_only():
    assert hosts.count() == 1
    assert hosts.others() == []


def test_hosts_are_numbered_from_the_second_one():
    hosts.set_count(3)
    assert [host.name for host in hosts.others()] == ["docker-host-2", "docker-host-3"]


@pytest.mark.parametrize(
    "of",
    [
        *("name", "etc", "data", "run", "netns", "mounts", "cgroup", "engine"),
        *("switch", "control", "tunnel", "inside", "subids"),
    ],
)
def test_no_two_hosts_have_the_same(of):
    assert len({getattr(host, of) for host in ALL}) == len(ALL)


def test_no_host_has_the_address_of_the_first_one():
    addresses = {address for host in ALL for address in (host.control, host.tunnel)}
    first = {f"{settings.CONTROL_PREFIX}.1", f"{settings.TUNNEL_PREFIX}.1"}
    assert not addresses & first


def test_servers_of_different_hosts_have_different_ids():
    options = cfg.ConfigOpts()
    conf.register_opts(options)
    first = (options.docker.subid_start, options.docker.subid_count)
    ranges = sorted([first, *(host.subids for host in ALL)])
    for (start, count), (following, _) in itertools.pairwise(ranges):
        assert start + count <= following
    start, count = ranges[-1]
    assert start + count < 2**32 - 1


def test_a_host_is_found_by_its_name():
    hosts.set_count(3)
    assert hosts.by_name("docker-host-3") == Host(3)


@pytest.mark.parametrize(
    ("count", "name", "error"),
    [
        (1, "docker-host-2", r"no host 'docker-host-2'; add one: .* up --hosts 2"),
        (3, "docker-host-4", "'docker-host-4'; there are docker-host-2, docker-host-3"),
        (2, "docker-host", r"is this machine itself; stop it with \./quickstart down"),
    ],
)
def test_an_unknown_host_is_an_error_that_says_what_to_do(count, name, error):
    hosts.set_count(count)
    with pytest.raises(QuickstartError, match=error):
        hosts.by_name(name)


def test_a_host_without_power_is_remembered():
    hosts.set_count(3)
    Host(2).turn(on=False)
    Host(2).turn(on=False)
    assert [host.is_on for host in hosts.others()] == [False, True]
    Host(3).turn(on=False)
    Host(2).turn(on=True)
    assert [host.is_on for host in hosts.others()] == [True, False]


@pytest.mark.parametrize(
    ("service", "expected"),
    [
        ("nova-compute@docker-host-2", Host(2)),
        ("nova-compute", None),
        ("nova-compute@docker-host-4", None),
    ],
)
def test_the_name_of_a_service_tells_its_host(service, expected):
    hosts.set_count(3)
    assert hosts.of_service(service) == expected
