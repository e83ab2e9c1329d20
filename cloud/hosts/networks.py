# SPDX-License-Identifier: Apache-2.0
"""The networks of the hosts: one to the control services, and one for OVN's tunnels.

The control services listen on 127.0.0.1 only, which is also their address in Keystone's
catalog. A host has a 127.0.0.1 of its own: netfilter sends the connections that its
processes open there to the same port of the first host, which accepts them only from
the hosts. Both networks are on one bridge.
"""

from __future__ import annotations

from cloud import commands
from cloud import open_vswitch
from cloud import settings
from cloud.hosts.host import Host
from cloud.settings import ETC
from cloud.settings import HOSTS_BRIDGE
from cloud.state import state

_MADE = f"made_{HOSTS_BRIDGE}"
# Interfaces in the namespace of a host, and one of the first host. The kernel limits
# their names to 15 characters.
_CONTROL, _TUNNEL = "control", "tunnel"
_FIRST_TUNNEL = "nd-tunnel1"

_RULES, _RULES_INSIDE = "hosts/first.nft", "hosts/other.nft"


def make() -> None:
    """Make the networks, and connect the first host to them."""
    if not open_vswitch.interface(HOSTS_BRIDGE).exists():
        state.set(_MADE, True)
        commands.run("ip", "link", "add", HOSTS_BRIDGE, "type", "bridge")
    first = Host(1)
    address = f"{first.control}/24"
    commands.run("ip", "address", "replace", address, "dev", HOSTS_BRIDGE)
    commands.run("ip", "link", "set", HOSTS_BRIDGE, "up")
    # Otherwise the kernel drops the packets that the rules send to 127.0.0.1.
    commands.run("sysctl", "--write", f"net.ipv4.conf.{HOSTS_BRIDGE}.route_localnet=1")
    commands.run("nft", "--file", ETC / _RULES)
    if not open_vswitch.interface(_FIRST_TUNNEL).exists():
        _make_pair(_FIRST_TUNNEL, f"{_FIRST_TUNNEL}p")
    commands.run("ip", "link", "set", f"{_FIRST_TUNNEL}p", "up")
    mac = _mac(first.tunnel)
    open_vswitch.FIRST.add_tunnels(f"{_FIRST_TUNNEL}p", first.tunnel, mac)


def remove() -> None:
    """Remove the networks and the rules."""
    if state.get(_MADE):
        for name in (_FIRST_TUNNEL, HOSTS_BRIDGE):
            if open_vswitch.interface(name).exists():
                commands.run("ip", "link", "delete", name, check=False)
        # A cloud that is down already has no table.
        table = ("table", "inet", settings.HOSTS_FIREWALL)
        commands.run("nft", "delete", *table, check=False)


def connect(host: Host) -> None:
    """Connect the network namespace of a host."""
    for name, letter in ((_CONTROL, "c"), (_TUNNEL, "t")):
        end = f"nd-{letter}{host.number}"
        if not open_vswitch.interface(end).exists():
            _make_pair(end, name, host.netns)
    inside = ("ip", "--netns", host.netns)
    commands.run(*inside, "link", "set", "lo", "up")
    # One that comes back has the addresses that the others remember.
    commands.run(*inside, "link", "set", _CONTROL, "address", _mac(host.control))
    address = f"{host.control}/24"
    commands.run(*inside, "address", "replace", address, "dev", _CONTROL)
    for name in _CONTROL, _TUNNEL:
        commands.run(*inside, "link", "set", name, "up")
    within = ("ip", "netns", "exec", host.netns)
    local = f"net.ipv4.conf.{_CONTROL}.route_localnet=1"
    commands.run(*within, "sysctl", "--write", local)
    commands.run(*within, "nft", "--file", ETC / _RULES_INSIDE)


def add_tunnels(host: Host) -> None:
    """Connect the virtual switch of a host to the network of tunnels."""
    switch_of(host).add_tunnels(_TUNNEL, host.tunnel, _mac(host.tunnel))


def switch_of(host: Host) -> open_vswitch.Switch:
    """Return the virtual switch of a host."""
    return open_vswitch.Switch(
        host.name, host.run, (settings.INTEGRATION_BRIDGE,), host.inside
    )


def _mac(address: str) -> str:
    """Return the MAC address that belongs to an IP address of a host."""
    return "02:00:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _make_pair(end: str, other: str, netns: str | None = None) -> None:
    """Make a veth pair.

    :param end: on the bridge
    :param other: in ``netns``, if that is not None
    """
    where = ("netns", netns) if netns else ()
    commands.run(
        *("ip", "link", "add", end, "type", "veth", "peer", "name", other, *where)
    )
    commands.run("ip", "link", "set", end, "master", HOSTS_BRIDGE, "up")
