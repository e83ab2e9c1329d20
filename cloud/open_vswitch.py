# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch: its database, its bridges, and the host's address on one of them."""

from __future__ import annotations

import pathlib

from cloud import commands
from cloud import ovn
from cloud import settings
from cloud.errors import QuickstartError
from cloud.settings import INTEGRATION_BRIDGE
from cloud.settings import PUBLIC_BRIDGE
from cloud.settings import RUN
from cloud.state import state

DATABASE = RUN / "ovs/conf.db"
SOCKET = RUN / "ovs/db.sock"
VSWITCHD = RUN / "ovs/vswitchd.ctl"

BRIDGES = (INTEGRATION_BRIDGE, PUBLIC_BRIDGE)
# The userspace datapath creates ovs-netdev. All of them outlive a killed
# ovs-vswitchd.
INTERFACES = (*BRIDGES, "ovs-netdev")


def make_database() -> None:
    """Create an empty database: ports do not outlive the switch's processes."""
    DATABASE.unlink(missing_ok=True)
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    commands.run("ovsdb-tool", "create", DATABASE, schema)


def has_kernel_datapath() -> bool:
    """Tell whether the kernel's datapath exists and is free.

    A machine has one, and another Open vSwitch may be using it.
    """
    if any(_comm(pid) == "ovs-vswitchd" for pid in pathlib.Path("/proc").iterdir()):
        return False
    commands.run("modprobe", "openvswitch", check=False)
    return pathlib.Path("/sys/module/openvswitch").exists()


def _comm(process: pathlib.Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return ""


def configure() -> None:
    """Write the configuration of ovs-vswitchd and ovn-controller to the database.

    :raises QuickstartError: when one of the bridges exists already
    """
    datapath = "system" if has_kernel_datapath() else "netdev"
    _vsctl("--no-wait", "init")
    _vsctl(
        "--no-wait",
        "set",
        "Open_vSwitch",
        ".",
        f"external-ids:system-id={settings.HOST}",
        f"external-ids:hostname={settings.HOST}",
        f"external-ids:ovn-remote=unix:{ovn.SOUTH}",
        "external-ids:ovn-encap-type=geneve",
        "external-ids:ovn-encap-ip=127.0.0.1",
        f"external-ids:ovn-bridge={INTEGRATION_BRIDGE}",
        f"external-ids:ovn-bridge-mappings=public:{PUBLIC_BRIDGE}",
        f"external-ids:ovn-bridge-datapath-type={datapath}",
        "external-ids:ovn-cms-options=enable-chassis-as-gw",
    )
    for name in INTERFACES:
        remove_interface(name)
        if not interface(name).exists():
            state.set(f"made_{name}", True)
        elif name in BRIDGES:
            raise QuickstartError(
                f"the network interface {name} exists already, and this cloud has "
                "not created it; remove or rename it"
            )
    for bridge in BRIDGES:
        _vsctl(
            "--no-wait",
            *("--may-exist", "add-br", bridge),
            *("--", "set", "Bridge", bridge, f"datapath_type={datapath}"),
        )


def is_ready() -> bool:
    """Tell whether ovs-vswitchd has created the bridges."""
    return all(interface(bridge).exists() for bridge in BRIDGES)


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


def remove_bridges() -> None:
    """Remove all bridges with their ports, and wait until they are gone."""
    for bridge in BRIDGES:
        commands.run(
            "ovs-vsctl",
            f"--db=unix:{SOCKET}",
            "--timeout=15",
            "--if-exists",
            "del-br",
            bridge,
            check=False,
        )


def _vsctl(*arguments: str) -> None:
    commands.run("ovs-vsctl", f"--db=unix:{SOCKET}", "--timeout=30", *arguments)
