# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on servers' network namespaces and their veth pairs.

:mod:`nova_docker.nics` decides what a NIC looks like; the functions here configure the
kernel accordingly.

A server's namespace has a name, ``/run/netns/nova-<uuid>``, so that operators can use
it with ``ip netns exec``.
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

from nova_docker.privsep.contexts import netns_admin

_LOOPBACK = 1  # interface index in every namespace

# The kernel's names of the features that `ethtool -K … tx off` switches off on a veth.
_TX_CHECKSUMS = ("tx-checksum-ip-generic", "tx-checksum-sctp")

_THREAD_NS = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)

# As Docker does in its own namespaces, allow processes to ping without CAP_NET_RAW and
# to listen on ports below 1024 without CAP_NET_BIND_SERVICE. Neutron keeps addresses
# unique: detecting duplicates would only delay them.
_NETNS_SYSCTLS = {
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}

# A host end belongs to the virtual switch, never to the host's own IP stack. With OVS's
# userspace datapath, the kernel still receives a copy of each frame: without these
# settings, a tenant could bypass all security groups to reach the host's addresses, or
# advertise an IPv6 router to the host.
_HOST_END_SYSCTLS = {
    "net/ipv4/conf/{}/rp_filter": "1",
    "net/ipv4/conf/{}/arp_ignore": "8",
    "net/ipv6/conf/{}/disable_ipv6": "1",
}


@netns_admin.entrypoint
def warm_up() -> None:
    """Start the daemon, so that the first boot does not wait for it."""


@netns_admin.entrypoint
def plug(
    netns: str, owner: str, nics: Sequence[Mapping[str, Any]], state: str = "up"
) -> None:
    """Create a namespace and its NICs, or bring existing ones in line.

    :param netns: name of the namespace, below /run/netns
    :param owner: identifies the server's engine; stored in the namespace
    :param nics: as :func:`nova_docker.nics.plan` returns them
    :param state: of their host ends, ``up`` or ``down``; see :func:`cut`
    """
    with _inside(netns, create=True) as host_ns, IPRoute() as inner:
        loopback = inner.get_links(_LOOPBACK)[0]
        if loopback.get("ifalias") != owner:
            _write_sysctls(_NETNS_SYSCTLS)
            inner.link("set", index=_LOOPBACK, ifalias=owner, state="up")
        for nic in nics:
            _configure(inner, _ensure_veth(inner, host_ns, nic), nic)
    with IPRoute() as host:
        for nic in nics:
            _write_sysctls(_HOST_END_SYSCTLS, nic["host_dev"])
            host.link("set", ifname=nic["host_dev"], ifalias=netns, state=state)


@netns_admin.entrypoint
def join_bridge(device: str, bridge: str) -> None:
    """Add a host device to a Linux bridge, for os-vif's hybrid plugging."""
    with IPRoute() as host:
        master = host.link_lookup(ifname=bridge)[0]
        host.link("set", ifname=device, master=master)


@netns_admin.entrypoint
def cut(netns: str) -> None:
    """Set the host ends of a namespace's NICs down; :func:`reconnect` reverts it.

    The kernel answers ping for the addresses of a namespace even if no process runs in
    it. A server that is powered off or frozen must not answer.

    :raises FileNotFoundError: if the namespace does not exist
    """
    _set_host_ends(netns, "down")


@netns_admin.entrypoint
def reconnect(netns: str) -> None:
    """Set the host ends of a namespace's NICs up again.

    :raises FileNotFoundError: if the namespace does not exist
    """
    _set_host_ends(netns, "up")


@netns_admin.entrypoint
def unplug(netns: str) -> None:
    """Remove a namespace and its NICs, if it exists.

    The NICs are deleted explicitly: after the name is removed, the kernel would delete
    them only at some later time.
    """
    with (
        contextlib.suppress(FileNotFoundError),
        _inside(netns),
        IPRoute() as inner,
    ):
        for link in inner.get_links(kind="veth"):
            with _unless_gone():
                inner.link("del", index=link["index"])
    # Also a name without a namespace, see _enter().
    with contextlib.suppress(FileNotFoundError):
        pr2_netns.remove(netns)


@netns_admin.entrypoint
def remove(netns: str, mac: str) -> None:
    """Remove the NIC with a MAC address from a namespace, if both exist."""
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
    """Return the names of a namespace's NICs, by MAC address."""
    try:
        with _inside(netns), IPRoute() as inner:
            links = inner.get_links(kind="veth")
            return {link.get("address"): link.get("ifname") for link in links}
    except FileNotFoundError:
        return {}


@netns_admin.entrypoint
def describe(netns: str) -> tuple[str | None, list[str]]:
    """Return the owner of a namespace and the host ends of the NICs plugged into it.

    :returns: (owner given to :func:`plug`, names of host devices); (None, []) if the
        namespace does not exist, or is just being created or removed. The engine's own
        devices are left out.
    """
    try:
        with _inside(netns), IPRoute() as inner:
            owner = inner.get_links(_LOOPBACK)[0].get("ifalias")
            ends = _host_ends(inner)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EINVAL):
            raise
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
    """Ignore that a NIC no longer exists: the engine removes its own at any time."""
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _set_host_ends(netns: str, state: str) -> None:
    with _inside(netns), IPRoute() as inner:
        ends = _host_ends(inner)
    with IPRoute() as host:
        for index in ends:
            with _unless_gone():
                host.link("set", index=index, state=state)


def _host_ends(inner: IPRoute) -> list[int]:
    """Return the interface indexes, on the host, of the NICs' peers."""
    return [link.get("link") for link in inner.get_links(kind="veth")]


@contextlib.contextmanager
def _inside(netns: str, *, create: bool = False) -> Iterator[int]:
    """Enter a namespace with the current thread only.

    The daemon serves calls in threads. /proc/self and pyroute2's function for creating
    a namespace refer to the main thread, and so to the host. Therefore the thread that
    enters a namespace also creates it, and checks that it has left the host's.

    :returns: file descriptor of the host's namespace
    :raises FileNotFoundError: if it does not exist and ``create`` is false
    """
    host_ns = os.open(_THREAD_NS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            _enter(netns)
        except FileNotFoundError:
            if not create:
                raise
            if _libc.unshare(pr2_netns.CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)") from None
            with contextlib.suppress(FileNotFoundError):
                pr2_netns.remove(netns)
            pr2_netns.attach(netns, "thread-self")
        if os.path.samestat(os.stat(_THREAD_NS), os.fstat(host_ns)):
            raise RuntimeError(
                f"Refusing to change {netns}: it is the host's own network namespace"
            )
        yield host_ns
    finally:
        pr2_netns.setns(host_ns)
        os.close(host_ns)


def _enter(netns: str) -> None:
    """Enter an existing namespace.

    :raises FileNotFoundError: if it does not exist
    """
    try:
        pr2_netns.setns(netns, flags=0)
    except OSError as error:
        # The name is a file, to which the namespace is bound in a second step. A
        # daemon that is killed in between leaves the file.
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "No namespace", netns) from error
        raise


def _write_sysctls(sysctls: Mapping[str, str], device: str = "") -> None:
    for name, value in sysctls.items():
        # The kernel may have no IPv6.
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path("/proc/sys", name.format(device)).write_text(value)


def _ensure_veth(inner: IPRoute, host_ns: int, nic: Mapping[str, Any]) -> int:
    """Return a NIC's interface index, after creating the veth pair if necessary."""
    if not inner.link_lookup(ifname=nic["name"]):
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
    # Also for an existing pair: a daemon may have been killed before it came to this.
    if not nic["tx_checksum"]:
        with contextlib.closing(IoctlEthtool(nic["name"])) as ethtool:
            features = ethtool.get_features()
            for feature in _TX_CHECKSUMS:
                features[feature] = False
            ethtool.set_features(features)
    return inner.link_lookup(ifname=nic["name"])[0]


def _configure(inner: IPRoute, index: int, nic: Mapping[str, Any]) -> None:
    inner.link("set", index=index, mtu=nic["mtu"], state="up")
    for address, prefix in nic["addresses"]:
        # Neutron keeps addresses unique: duplicate address detection would only make
        # them unusable for a second.
        flags = {"flags": IFA_F_NODAD} if ":" in address else {}
        inner.addr("replace", index=index, address=address, prefixlen=prefix, **flags)
    for destination, gateway, metric in nic["routes"]:
        route: dict[str, Any] = {"dst": destination, "oif": index}
        if gateway is not None:
            route["gateway"] = gateway
        if metric:
            route["priority"] = metric
        inner.route("replace", **route)
