# SPDX-License-Identifier: Apache-2.0
"""Attaching and detaching interfaces."""

from __future__ import annotations

import pytest

from tests.cloud.conftest import eventually


@pytest.fixture
def port(demo):
    """A port on the private network, which belongs to no server at first."""
    created = demo.network.create_port(
        network_id=demo.network.find_network("private").id
    )
    yield created
    demo.network.delete_port(created)


def names(server):
    return server.run("ls /sys/class/net").split()


def attach(server, port):
    server.user.compute.create_server_interface(server.id, port_id=port.id)


def detach(server, port):
    server.user.compute.delete_server_interface(port.id, server=server.id)
    detached = eventually(
        lambda: (
            port.id
            not in {p.id for p in server.user.network.ports(device_id=server.id)}
        )
    )
    assert detached


def address(port):
    return next(ip["ip_address"] for ip in port.fixed_ips if "." in ip["ip_address"])


def test_interfaces_are_attached_and_detached_while_a_server_runs(port, boot, demo):
    server, other = boot(), boot()
    attach(server, port)
    assert names(server) == ["eth0", "eth1", "lo"]
    assert address(port) in server.run("ip -o addr show dev eth1")
    assert eventually(lambda: demo.network.get_port(port.id).status == "ACTIVE")
    # With two NICs in one subnet, replies would leave through the first.
    detach(server, server.port_of("eth0"))
    assert names(server) == ["eth1", "lo"]
    server.run("nc -ll -p 8080 -e echo hello >/dev/null 2>&1 </dev/null &")
    group = demo.network.find_security_group(
        "default", project_id=demo.current_project_id
    )
    rule = demo.network.create_security_group_rule(
        security_group_id=group.id,
        direction="ingress",
        protocol="tcp",
        port_range_min=8080,
        port_range_max=8080,
    )
    try:
        assert eventually(
            lambda: (
                "hello"
                in other.run(f"nc -w 5 {address(port)} 8080 </dev/null", check=False)
            )
        )
    finally:
        demo.network.delete_security_group_rule(rule)
    detach(server, port)
    assert names(server) == ["lo"]


def test_an_interface_keeps_its_name_when_another_is_detached(port, boot):
    server = boot()
    attach(server, port)
    detach(server, server.port_of("eth0"))
    assert names(server) == ["eth1", "lo"]
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert names(server) == ["eth1", "lo"]
    assert address(port) in server.run("ip -o addr show dev eth1")


@pytest.mark.parametrize(
    ("action", "back", "status"),
    [
        ("stop_server", "start_server", "SHUTOFF"),
        ("pause_server", "unpause_server", "PAUSED"),
    ],
)
def test_an_interface_is_attached_to_an_inactive_server(
    port, boot, action, back, status
):
    server = boot()
    server.act(action, until=status)
    attach(server, port)
    server.act(back, until="ACTIVE")
    assert address(port) in server.run("ip -o addr show dev eth1")
