# SPDX-License-Identifier: Apache-2.0
"""The few things that need root: a server's network namespace and its veths.

nova-compute runs unprivileged; oslo.privsep runs these functions in a daemon
that holds two capabilities. Nothing here decides anything: :mod:`nics` says
what a NIC looks like, this module makes the kernel agree.

A server's namespace is a named one, ``/run/netns/nova-<uuid>``, so that an
operator can look inside with ``ip netns exec``.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pathlib
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pyroute2 import IPRoute
from pyroute2 import netns as pr2_netns
from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from nova_docker.privsep import netns_admin

LOOPBACK = 1  # its index in every namespace

_THREAD_NS = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)

# What an unprivileged process of a container may do with its own network, as
# Docker itself allows in the namespaces that it makes: ping without
# CAP_NET_RAW, and listen on port 80 without CAP_NET_BIND_SERVICE. Addresses
# are Neutron's to keep unique: detection of duplicates would only delay them.
_NETNS_SYSCTLS = {
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}

# A host end belongs to the virtual switch, never to the host's own IP stack.
# OVS's userspace datapath leaves the kernel a copy of each frame: without
# these a tenant could reach the host's addresses past every security group,
# or hand the host an IPv6 router.
_HOST_END_SYSCTLS = {
    "net/ipv4/conf/{}/rp_filter": "1",
    "net/ipv4/conf/{}/arp_ignore": "8",
    "net/ipv6/conf/{}/disable_ipv6": "1",
}


@netns_admin.entrypoint
def warm_up() -> None:
    """Start the daemon, so that the first boot does not wait for it."""


@netns_admin.entrypoint
def plug(netns: str, owner: str, nics: Sequence[Mapping[str, Any]]) -> None:
    """Make namespace ``netns`` exist with these NICs configured, and up.

    What exists is kept and brought in line, so that it may be called again.

    :param netns: name of the namespace, below /run/netns
    :param owner: id of the engine whose server it is, kept in the namespace
    :param nics: what :func:`nova_docker.nics.plan` returns
    """
    with _inside(netns, create=True) as host_ns, IPRoute() as inner:
        loopback = inner.get_links(LOOPBACK)[0]
        if loopback.get("ifalias") != owner:
            _write_sysctls(_NETNS_SYSCTLS)
            inner.link("set", index=LOOPBACK, ifalias=owner, state="up")
        for nic in nics:
            _configure(inner, _ensure_veth(inner, host_ns, nic), nic)
    with IPRoute() as host:
        for nic in nics:
            _write_sysctls(_HOST_END_SYSCTLS, nic["host_dev"])
            host.link("set", ifname=nic["host_dev"], ifalias=netns, state="up")


@netns_admin.entrypoint
def join_bridge(device: str, bridge: str) -> None:
    """Put a host device into a Linux bridge (os-vif's hybrid plugging)."""
    with IPRoute() as host:
        master = host.link_lookup(ifname=bridge)[0]
        host.link("set", ifname=device, master=master)


@netns_admin.entrypoint
def cut(netns: str) -> None:
    """Cut the links of a namespace's NICs, by their host ends; plug mends them.

    The kernel answers for a namespace's addresses whether or not a process
    runs in it: a server that is off must not answer ping.
    """
    with _inside(netns), IPRoute() as inner:
        ends = _host_ends(inner)
    with IPRoute() as host:
        for index in ends:
            with _unless_gone():
                host.link("set", index=index, state="down")


@netns_admin.entrypoint
def unplug(netns: str) -> None:
    """Remove a namespace and the veths into it; an absent one is passed.

    The veths go first and one by one: the kernel would clear a namespace that
    nothing holds any more only some time later.
    """
    with contextlib.suppress(FileNotFoundError):
        with _inside(netns), IPRoute() as inner:
            for link in inner.get_links(kind="veth"):
                with _unless_gone():
                    inner.link("del", index=link["index"])
        pr2_netns.remove(netns)


@netns_admin.entrypoint
def remove(netns: str, mac: str) -> None:
    """Remove the NIC with a MAC address from a namespace; none is passed."""
    with (
        contextlib.suppress(FileNotFoundError),
        _inside(netns),
        IPRoute() as inner,
    ):
        for index in inner.link_lookup(address=mac):
            with _unless_gone():
                inner.link("del", index=index)


@netns_admin.entrypoint
def names(netns: str) -> dict[str, str]:
    """Tell what the NICs of a namespace are called, by MAC address."""
    try:
        with _inside(netns), IPRoute() as inner:
            links = inner.get_links(kind="veth")
            return {link.get("address"): link.get("ifname") for link in links}
    except FileNotFoundError:
        return {}


@netns_admin.entrypoint
def describe(netns: str) -> tuple[str | None, list[str]]:
    """Tell whose a namespace is, and the host ends of the NICs plugged into it.

    :returns: (owner given to :func:`plug`, names of host devices); (None, [])
        for one that does not exist. The engine's own devices are not named.
    """
    try:
        with _inside(netns), IPRoute() as inner:
            owner = inner.get_links(LOOPBACK)[0].get("ifalias")
            ends = _host_ends(inner)
    except FileNotFoundError:
        return None, []
    devices = []
    with IPRoute() as host:
        for index in ends:
            with _unless_gone():
                [link] = host.get_links(index)
                if link.get("ifalias") == netns:
                    devices.append(link.get("ifname"))
    return owner, devices


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Pass a NIC that went meanwhile: the engine takes its own away by itself."""
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _host_ends(inner: IPRoute) -> list[int]:
    return [link.get("link") for link in inner.get_links(kind="veth")]


@contextlib.contextmanager
def _inside(netns: str, *, create: bool = False) -> Iterator[int]:
    """Enter a namespace with this thread alone.

    The daemon serves calls in threads. /proc/self and pyroute2's own way to
    make a namespace mean the first thread, and so the host: a namespace is
    made here by the thread that will be in it, and what is about to be changed
    is checked not to be the host's.

    :returns: descriptor of the host's namespace
    :raises FileNotFoundError: when it does not exist and is not to be made
    """
    host_ns = os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if create and netns not in pr2_netns.listnetns():
            if _libc.unshare(pr2_netns.CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
            pr2_netns.attach(netns, "thread-self")
        else:
            pr2_netns.setns(netns, flags=0)
        if os.path.samestat(os.stat(_THREAD_NS), os.fstat(host_ns)):
            raise RuntimeError(f"{netns} is the host's own network namespace")
        yield host_ns
    finally:
        pr2_netns.setns(host_ns)
        os.close(host_ns)


def _write_sysctls(sysctls: Mapping[str, str], device: str = "") -> None:
    for name, value in sysctls.items():
        # A host may have no IPv6 at all.
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path("/proc/sys", name.format(device)).write_text(value)


def _ensure_veth(inner: IPRoute, host_ns: int, nic: Mapping[str, Any]) -> int:
    """Return the index of the NIC in the namespace, making the pair if needed."""
    found = inner.link_lookup(ifname=nic["name"])
    if found:
        return found[0]
    inner.link(
        "add",
        ifname=nic["name"],
        kind="veth",
        address=nic["mac"],
        peer={
            "ifname": nic["host_dev"],
            "net_ns_fd": host_ns,
            "mtu": nic["mtu"],
        },
    )
    if not nic["tx_checksum"]:
        with contextlib.closing(IoctlEthtool(nic["name"])) as ethtool:
            ethtool.set_offload_flag("tx-checksumming", 0)
    return inner.link_lookup(ifname=nic["name"])[0]


def _configure(inner: IPRoute, index: int, nic: Mapping[str, Any]) -> None:
    inner.link("set", index=index, mtu=nic["mtu"], state="up")
    for address, prefix in nic["addresses"]:
        # Neutron has made sure that the address is unique: duplicate address
        # detection would only keep it unusable for a second.
        flags = {"flags": IFA_F_NODAD} if ":" in address else {}
        inner.addr("replace", index=index, address=address, prefixlen=prefix, **flags)
    for destination, gateway, metric in nic["routes"]:
        route: dict[str, Any] = {"dst": destination, "oif": index}
        if gateway is not None:
            route["gateway"] = gateway
        if metric:
            route["priority"] = metric
        inner.route("replace", **route)
