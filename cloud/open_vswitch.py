# SPDX-License-Identifier: Apache-2.0
"""Open vSwitch and OVN: their databases, and the bridge to the host."""

from __future__ import annotations

import pathlib

from cloud import commands
from cloud import settings
from cloud.settings import DATA
from cloud.settings import INTEGRATION_BRIDGE
from cloud.settings import PUBLIC_BRIDGE
from cloud.settings import RUN
from cloud.settings import memory

DATABASE = RUN / "ovs/conf.db"
SOCKET = RUN / "ovs/db.sock"
VSWITCHD = RUN / "ovs/vswitchd.ctl"
NORTH = RUN / "ovn/north.sock"
SOUTH = RUN / "ovn/south.sock"

BRIDGES = (INTEGRATION_BRIDGE, PUBLIC_BRIDGE)
# The last is the userspace datapath's own. They outlive a killed ovs-vswitchd.
INTERFACES = (*BRIDGES, "ovs-netdev")


def make_database() -> None:
    """Make the switch's database anew: ports last as long as its processes."""
    DATABASE.unlink(missing_ok=True)
    schema = "/usr/share/openvswitch/vswitch.ovsschema"
    commands.run("ovsdb-tool", "create", DATABASE, schema)


def make_ovn_databases() -> None:
    """Make OVN's databases, once: they are Neutron's networks."""
    for name, schema in (("north", "ovn-nb"), ("south", "ovn-sb")):
        path = DATA / f"ovn/{name}.db"
        if not path.exists():
            source = f"/usr/share/ovn/{schema}.ovsschema"
            commands.run("ovsdb-tool", "create", path, source, user=settings.USER)


def has_kernel_datapath() -> bool:
    """Tell whether the kernel can switch, and nobody else has it do so.

    There is one kernel datapath for all of Open vSwitch on a machine.
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


def describe() -> None:
    """Tell ovs-vswitchd and ovn-controller what they are to be."""
    datapath = "system" if has_kernel_datapath() else "netdev"
    _vsctl("--no-wait", "init")
    _vsctl(
        "--no-wait",
        "set",
        "Open_vSwitch",
        ".",
        f"external-ids:system-id={settings.HOST}",
        f"external-ids:hostname={settings.HOST}",
        f"external-ids:ovn-remote=unix:{SOUTH}",
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
            memory.set(f"made_{name}", True)
        elif name in BRIDGES:
            raise commands.Failed(
                f"the interface {name} exists already, made by something else"
            )
    for bridge in BRIDGES:
        _vsctl(
            "--no-wait",
            *("--may-exist", "add-br", bridge),
            *("--", "set", "Bridge", bridge, f"datapath_type={datapath}"),
        )


def is_ready() -> bool:
    """Tell whether ovs-vswitchd has made the bridges."""
    return all(interface(bridge).exists() for bridge in BRIDGES)


def interface(name: str) -> pathlib.Path:
    return pathlib.Path("/sys/class/net", name)


def remove_interface(name: str) -> None:
    """Remove what a killed process left, if it was this cloud's."""
    if memory.get(f"made_{name}") and interface(name).exists():
        commands.run("ip", "link", "delete", name, check=False)


def address_public_bridge() -> None:
    """Give the host the gateway's address of the network public.

    That is how the host, and nobody else, reaches floating IPs.
    """
    prefix = settings.PUBLIC_CIDR.partition("/")[2]
    address = f"{settings.PUBLIC_GATEWAY}/{prefix}"
    commands.run("ip", "address", "replace", address, "dev", PUBLIC_BRIDGE)
    commands.run("ip", "link", "set", PUBLIC_BRIDGE, "up")
    # The userspace datapath hands on what the kernel left to be filled in.
    commands.run("ethtool", "--offload", PUBLIC_BRIDGE, "tx", "off", check=False)


def has_chassis() -> bool:
    """Tell whether OVN knows this host as one that runs servers."""
    found = commands.output(
        "ovn-sbctl",
        f"--db=unix:{SOUTH}",
        "--timeout=10",
        "--bare",
        "--columns=name",
        "find",
        "Chassis",
        f"hostname={settings.HOST}",
        check=False,
    )
    return bool(found.strip())


def metadata_namespaces() -> list[str]:
    """Return where Neutron's agent serves metadata, one for each network."""
    files = (RUN / "metadata/ovn-metadata-proxy").glob("*.conf")
    return [f"ovnmeta-{file.stem}" for file in files]


def add_chassis(name: str) -> None:
    """Have OVN know a host that has no switch, so that Neutron binds ports to it."""
    southbound = ("ovn-sbctl", f"--db=unix:{SOUTH}", "--timeout=10")
    commands.run(
        *southbound,
        *("--may-exist", "chassis-add", name, "geneve", "127.0.0.2"),
        *("--", "set", "Chassis", name, f"hostname={name}"),
    )


def remove_bridges() -> None:
    """Take all bridges and ports off, and wait until they are gone."""
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
