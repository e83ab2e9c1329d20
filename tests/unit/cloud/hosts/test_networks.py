# SPDX-License-Identifier: Apache-2.0
"""The networks of hosts."""

from __future__ import annotations

import re

import pytest

from cloud import open_vswitch
from cloud.hosts import networks
from cloud.hosts.host import MOST
from cloud.hosts.host import Host


@pytest.fixture(autouse=True)
def interfaces(tmp_path, monkeypatch):
    """The directory that shows the machine's interfaces, of which there are none."""
    directory = tmp_path / "net"
    directory.mkdir()
    monkeypatch.setattr(open_vswitch, "interface", directory.joinpath)
    return directory


def test_the_kernel_accepts_the_names_of_all_interfaces(programs):
    networks.make()
    networks.connect(Host(MOST))
    pattern = r"ip link add (\S+) type (?:bridge$|veth peer name (\S+))"
    names = {name for line in programs.ran for name in re.findall(pattern, line)}
    found = {name for pair in names for name in pair if name}
    assert len(found) == 7
    assert all(len(name) < 16 for name in found)


def test_interfaces_that_exist_are_left_alone(programs, interfaces):
    for name in ("nd-hosts", "nd-tunnel1", "nd-c2", "nd-t2"):
        (interfaces / name).touch()
    networks.make()
    networks.connect(Host(2))
    assert not [line for line in programs.ran if line.startswith("ip link add")]


def test_the_tunnels_of_a_host_start_at_its_own_address(programs):
    networks.add_tunnels(Host(2))
    [address] = [line for line in programs.ran if "ip address" in line]
    assert "--net=/run/netns/quickstart-2" in address
    assert address.endswith("ip address replace 172.24.7.2/24 dev br-tunnel")
    assert programs.ran[-1].endswith("external-ids:ovn-encap-ip=172.24.7.2")


def test_a_cloud_that_never_had_hosts_has_no_networks_to_remove(programs):
    networks.remove()
    assert programs.ran == []


def test_networks_that_are_gone_already_can_be_removed_again(programs, interfaces):
    networks.make()
    (interfaces / "nd-hosts").touch()
    networks.remove()
    assert "ip link delete nd-hosts" in programs.ran
    (interfaces / "nd-hosts").unlink()
    programs.failing.add("nft")
    networks.remove()
