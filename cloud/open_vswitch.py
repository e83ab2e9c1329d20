# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch: its database, its bridges, and the host's address on one of them."""

from __future__ import annotations

import os
import pathlib
from dataclasses import dataclass

from cloud import commands
from cloud import ovn
from cloud import probes
from cloud import settings
from cloud.errors import QuickstartError
from cloud.settings import INTEGRATION_BRIDGE
from cloud.settings import PUBLIC_BRIDGE
from cloud.settings import RUN
from cloud.settings import TUNNEL_BRIDGE
from cloud.state import state

# The userspace datapath creates ovs-netdev. All of them outlive a killed
# ovs-vswitchd.
INTERFACES = (INTEGRATION_BRIDGE, PUBLIC_BRIDGE, TUNNEL_BRIDGE, "ovs-netdev")


@dataclass(frozen=True)
class Switch:
    """The virtual switch of a host.

    :ivar host: the host's name
    :ivar run: directory above that of its sockets and of its database
    :ivar bridges: those that it always has, besides that of :meth:`add_tunnels`
    :ivar inside: the words before a command that must run in its network namespace
    """

    host: str
    run: pathlib.Path
    bridges: tuple[str, ...]
    inside: tuple[str, ...] = ()

    @property
    def database(self) -> pathlib.Path:
        return self.run / "ovs/conf.db"

    @property
    def socket(self) -> pathlib.Path:
        return self.run / "ovs/db.sock"

    @property
    def control(self) -> pathlib.Path:
        """The socket by which ovs-vswitchd is controlled."""
        return self.run / "ovs/vswitchd.ctl"

    def make_database(self) -> None:
        """Create an empty database: ports do not outlive the switch's processes."""
        self.database.unlink(missing_ok=True)
        schema = "/usr/share/openvswitch/vswitch.ovsschema"
        commands.run("ovsdb-tool", "create", self.database, schema)

    def configure(self, encapsulation: str = "127.0.0.1") -> None:
        """Write what ovs-vswitchd and ovn-controller are to do to the database.

        :param encapsulation: the host's address for OVN's tunnels
        """
        datapath = "system" if has_kernel_datapath() else "netdev"
        ids = {
            "system-id": self.host,
            "hostname": self.host,
            "ovn-remote": f"unix:{ovn.SOUTH}",
            "ovn-encap-type": "geneve",
            "ovn-encap-ip": encapsulation,
            "ovn-bridge": INTEGRATION_BRIDGE,
            "ovn-bridge-datapath-type": datapath,
        }
        if PUBLIC_BRIDGE in self.bridges:
            ids["ovn-bridge-mappings"] = f"public:{PUBLIC_BRIDGE}"
            ids["ovn-cms-options"] = "enable-chassis-as-gw"
        self._vsctl("--no-wait", "init")
        self._set(ids, "--no-wait")
        for bridge in self.bridges:
            self._vsctl("--no-wait", *_bridge(bridge, datapath))

    def is_ready(self) -> bool:
        """Tell whether ovs-vswitchd has created the bridges."""
        return probes.socket_accepts(self.control) and all(
            self._output("get", "Interface", bridge, "ofport").strip().isdecimal()
            for bridge in self.bridges
        )

    def add_tunnels(self, port: str, address: str, mac: str) -> None:
        """Let OVN's tunnels to other hosts start at an address.

        The datapath in user space finds tunnels only on a bridge of its own.

        :param port: the interface that leads to the other hosts
        :param mac: the MAC address that belongs to the address
        """
        kind = self._output("get", "Bridge", INTEGRATION_BRIDGE, "datapath_type")
        self._vsctl(
            *_bridge(TUNNEL_BRIDGE, kind.strip().strip('"')),
            f'other-config:hwaddr="{mac}"',
            *("--", "--may-exist", "add-port", TUNNEL_BRIDGE, port),
        )
        self._run("ip", "address", "replace", f"{address}/24", "dev", TUNNEL_BRIDGE)
        self._run("ip", "link", "set", TUNNEL_BRIDGE, "up")
        self._set({"ovn-encap-ip": address})

    def remove_bridges(self) -> None:
        """Remove all bridges with their ports, and wait until they are gone."""
        for bridge in (*self.bridges, TUNNEL_BRIDGE):
            commands.run(
                "ovs-vsctl",
                f"--db=unix:{self.socket}",
                "--timeout=15",
                "--if-exists",
                "del-br",
                bridge,
                check=False,
            )

    def _set(self, ids: dict[str, str], *options: str) -> None:
        """Set external IDs, which ovn-controller reads."""
        words = (f"external-ids:{name}={value}" for name, value in ids.items())
        self._vsctl(*options, "set", "Open_vSwitch", ".", *words)

    def _run(self, *command: str) -> None:
        commands.run(*self.inside, *command)

    def _vsctl(self, *arguments: str) -> None:
        database = f"--db=unix:{self.socket}"
        commands.run("ovs-vsctl", database, "--timeout=30", *arguments)

    def _output(self, *arguments: str) -> str:
        database = f"--db=unix:{self.socket}"
        return commands.output(
            "ovs-vsctl", database, "--timeout=10", *arguments, check=False
        )


FIRST = Switch(settings.HOST, RUN, (INTEGRATION_BRIDGE, PUBLIC_BRIDGE))


def configure_first() -> None:
    """Configure the switch of this machine itself.

    :raises QuickstartError: when one of its bridges exists already
    """
    for name in INTERFACES:
        remove_interface(name)
        if not interface(name).exists():
            state.set(f"made_{name}", True)
        elif name in FIRST.bridges:
            raise QuickstartError(
                f"the network interface {name} exists already, and this cloud has "
                "not created it; remove or rename it"
            )
    FIRST.configure()


def has_kernel_datapath() -> bool:
    """Tell whether the kernel's datapath exists and is free.

    Each network namespace has one, and another Open vSwitch may be using it. As this
    looks at the first host's namespace, the other hosts have the userspace datapath.
    """
    if any(map(_is_switch_beside, pathlib.Path("/proc").glob("[0-9]*"))):
        return False
    commands.run("modprobe", "openvswitch", check=False)
    return pathlib.Path("/sys/module/openvswitch").exists()


def interface(name: str) -> pathlib.Path:
    return pathlib.Path("/sys/class/net", name)


def remove_interface(name: str) -> None:
    """Remove a network interface if this cloud created it."""
    if state.get(f"made_{name}") and interface(name).exists():
        commands.run("ip", "link", "delete", name, check=False)


def address_public_bridge() -> None:
    """Give the host the address of the gateway of the network public.

    This lets the host, and no other machine, reach floating IPs.
    """
    prefix = settings.PUBLIC_CIDR.partition("/")[2]
    address = f"{settings.PUBLIC_GATEWAY}/{prefix}"
    commands.run("ip", "address", "replace", address, "dev", PUBLIC_BRIDGE)
    commands.run("ip", "link", "set", PUBLIC_BRIDGE, "up")
    # The kernel leaves checksums to be filled in by the device, which the userspace
    # datapath does not do.
    commands.run("ethtool", "--offload", PUBLIC_BRIDGE, "tx", "off", check=False)


def _bridge(name: str, datapath: str) -> tuple[str, ...]:
    """Return the arguments of ovs-vsctl that create a bridge."""
    return (
        *("--may-exist", "add-br", name),
        *("--", "set", "Bridge", name, f"datapath_type={datapath}"),
    )


def _is_switch_beside(process: pathlib.Path) -> bool:
    """Tell whether a process is an ovs-vswitchd in this network namespace."""
    try:
        if (process / "comm").read_text().strip() != "ovs-vswitchd":
            return False
        here = pathlib.Path("/proc/self/ns/net")
        return os.path.samestat((process / "ns/net").stat(), here.stat())
    except OSError:
        return False
