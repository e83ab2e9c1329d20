# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on servers' network namespaces and their veth pairs.

:mod:`nova_docker.nics` decides what a NIC looks like; the functions here configure the
kernel accordingly.

A server's namespace has a name, ``/run/netns/nova-<uuid>``, so that operators can use
it with ``ip netns exec``. With a user namespace, root in the server may change
everything in it: names, addresses and aliases of its NICs, and add others. Nothing here
relies on what is inside of such a namespace; the host ends are marked instead, by their
alias ``nova-<uuid> <name of the peer>``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import socket
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from pyroute2 import IPRoute
from pyroute2 import netns as pr2_netns
from pyroute2.ethtool.ioctl import IoctlEthtool
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import TC_H_ROOT
from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD

from nova_docker.privsep import child
from nova_docker.privsep import netns_names
from nova_docker.privsep import userns
from nova_docker.privsep.contexts import netns_admin

_LOOPBACK = 1  # interface index in every namespace

# The kernel's names of the features that `ethtool -K … tx off` switches off on a veth.
_TX_CHECKSUMS = ("tx-checksum-ip-generic", "tx-checksum-sctp")

# Handles of qdiscs
_SHAPERS = (0x6E6F0000, 0x6E700000)

_HOST_USERNS = "/proc/thread-self/ns/user"
_DEVICES = "/sys/class/net"

# As Docker does in its own namespaces, allow processes to ping without CAP_NET_RAW and
# to listen on ports below 1024 without CAP_NET_BIND_SERVICE. Neutron keeps addresses
# unique: detecting duplicates would only delay them.
_NETNS_SYSCTLS = {
    "net/ipv4/ping_group_range": "0 2147483647",
    "net/ipv4/ip_unprivileged_port_start": "0",
    "net/ipv6/conf/default/accept_dad": "0",
}

_NO_ROUTERS = {"net/ipv6/conf/default/accept_ra": "0"}

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
    netns: str,
    owner: str,
    nics: Sequence[Mapping[str, Any]],
    state: str = "up",
    *,
    isolated: bool = False,
    keep: bool = False,
    renew: bool = False,
) -> None:
    """Create a namespace and its NICs, or bring existing ones in line.

    :param netns: name of the namespace, below /run/netns
    :param owner: identifies the server's engine; stored in the namespace
    :param nics: as :func:`nova_docker.nics.plan` returns them
    :param state: of their host ends, ``up`` or ``down``; see :func:`cut`
    :param isolated: whether the namespace belongs to the server's user namespace, as
        :func:`nova_docker.privsep.userns.pin` creates it. The server may then change
        its NICs; those that exist stay as they are inside.
    :param keep: whether NICs that exist stay as they are in any case, and the kernel
        learns nothing from routers: a server in gVisor takes its addresses and routes
        once, and does not start with two default routes
    :param renew: whether to replace an existing namespace, in which no process runs,
        by a new one; the NICs move
    :raises FileExistsError: if a device of the host has the name of a NIC's host end
    """
    with (
        netns_names.opened(netns) as found,
        netns_names.coming_back() as host_ns,
        IPRoute() as host,
    ):
        if found is None or renew or not _suits(found, netns, isolated):
            _create(netns, isolated)
        else:
            pr2_netns.setns(found)
        netns_names.refuse_hosts(netns, host_ns)
        with netns_names.current() as current, IPRoute() as inner:
            [loopback] = inner.get_links(_LOOPBACK)
            if isolated:
                if loopback["state"] == "down":
                    _write_sysctls(_NETNS_SYSCTLS)
                    inner.link("set", index=_LOOPBACK, state="up")
            elif loopback.get("ifalias") != owner:
                _write_sysctls(_NETNS_SYSCTLS | (_NO_ROUTERS if keep else {}))
                inner.link("set", index=_LOOPBACK, ifalias=owner, state="up")
            spaces = _Namespaces(host, inner, host_ns, current, found)
            for nic in nics:
                index, is_ready = _ensure_veth(spaces, netns, nic)
                if not (is_ready and (isolated or keep)):
                    _configure(inner, index, nic)
    with IPRoute() as host:
        for nic in nics:
            _write_sysctls(_HOST_END_SYSCTLS, nic["host_dev"])
            # Last: a host end without it may not be configured completely.
            alias = f"{netns} {nic['name']}"
            host.link("set", ifname=nic["host_dev"], ifalias=alias, state=state)


@netns_admin.entrypoint
def join_bridge(device: str, bridge: str) -> None:
    """Add a host device to a Linux bridge, for os-vif's hybrid plugging."""
    with IPRoute() as host:
        master = host.link_lookup(ifname=bridge)[0]
        host.link("set", ifname=device, master=master)


@netns_admin.entrypoint
def shape(
    netns: str, devices: Sequence[str], shapers: Sequence[Mapping[str, int]]
) -> None:
    """Limit what a namespace's NICs send; those that do not exist are left out.

    It is shaped at the NIC itself. Open vSwitch receives from the host end before an
    ingress qdisc there would act, and replaces that qdisc.

    :param devices: the NICs' ends on the host
    :param shapers: arguments of TBF; each feeds the one before; empty for no limit
    """
    with netns_names.opened(netns) as found, IPRoute() as host:
        if found is None:
            return
        peers = []
        for device in devices:
            with _unless_gone():
                [link] = host.link("get", ifname=device)
                if _is_in(host, link, found):
                    peers.append(link.get("link"))
    with netns_names.inside(netns), IPRoute() as inner:
        for index in peers:
            with _unless_gone():
                _shape(inner, index, shapers)


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
    ends = _host_ends(netns)
    with IPRoute() as host:
        for index in ends:
            with _unless_gone():
                host.link("del", index=index)
    # Also a name without a namespace, see netns_names.opened().
    with contextlib.suppress(FileNotFoundError):
        pr2_netns.remove(netns)


@netns_admin.entrypoint
def remove(netns: str, device: str) -> None:
    """Remove a NIC from a namespace, if both exist.

    :param device: the NIC's end on the host
    """
    with netns_names.opened(netns) as found, IPRoute() as host, _unless_gone():
        [link] = host.link("get", ifname=device)
        if device in _devices(netns) or _is_in(host, link, found):
            host.link("del", index=link["index"])


@netns_admin.entrypoint
def names(netns: str) -> dict[str, str]:
    """Return the names that NICs of a namespace were given, by their host ends.

    A server with a user namespace may have renamed them.
    """
    found: dict[str, str] = {}
    devices = _devices(netns)
    if not devices:
        return found
    with netns_names.opened(netns) as namespace, IPRoute() as host:
        for device, name in devices.items():
            with _unless_gone():
                [link] = host.link("get", ifname=device)
                if _is_in(host, link, namespace):
                    found[device] = name or _name_inside(netns, link.get("link"))
    return found


@netns_admin.entrypoint
def describe(netns: str) -> tuple[str | None, list[str]]:
    """Return the owner of a namespace and the host ends of the NICs plugged into it.

    :returns: (owner given to :func:`plug`, names of host devices); no owner if the
        namespace does not exist, or is just being created or removed. The engine's own
        devices are left out.
    """
    owner = userns.owner_of(netns)
    if owner is None:
        with (
            contextlib.suppress(FileNotFoundError),
            netns_names.inside(netns) as namespace,
        ):
            # In a namespace that belongs to a server, nothing can be relied on.
            if _suits(namespace, netns, isolated=False):
                with IPRoute() as inner:
                    owner = inner.get_links(_LOOPBACK)[0].get("ifalias")
    return owner, list(_devices(netns))


@contextlib.contextmanager
def _unless_gone() -> Iterator[None]:
    """Ignore that a NIC no longer exists: the engine removes its own at any time."""
    try:
        yield
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _shape(space: IPRoute, index: int, shapers: Sequence[Mapping[str, int]]) -> None:
    """Replace what shapes the traffic that a device sends."""
    # Deleting what is not there is an error of its own, EINVAL or ENOENT.
    with contextlib.suppress(NetlinkError):
        space.tc("del", index=index, parent=TC_H_ROOT)
    parent = TC_H_ROOT
    for handle, shaper in zip(_SHAPERS, shapers, strict=False):
        space.tc("add", "tbf", index, handle=handle, parent=parent, **shaper)
        # The only class of a TBF
        parent = handle | 1


def _set_host_ends(netns: str, state: str) -> None:
    with netns_names.opened(netns) as found:
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No namespace", netns)
    ends = _host_ends(netns)
    with IPRoute() as host:
        for index in ends:
            with _unless_gone():
                host.link("set", index=index, state=state)


def _devices(netns: str) -> dict[str, str]:
    """Return the host ends of a namespace's NICs, with the names of their peers.

    They are marked on the host, where no server can change them. A NIC that an earlier
    release has plugged has no name.
    """
    found = {}
    for device in os.listdir(_DEVICES):
        # Any device may disappear at any time.
        with contextlib.suppress(OSError), open(f"{_DEVICES}/{device}/ifalias") as file:
            mark, name = _parsed(file.read())
            if mark == netns:
                found[device] = name
    return found


def _parsed(alias: str | None) -> tuple[str, str]:
    """Return the parts of a host end's alias: its namespace, and the peer's name."""
    mark, _, name = (alias or "").strip().partition(" ")
    return mark, name


def _host_ends(netns: str) -> set[int]:
    """Return the interface indexes of a namespace's host ends, also of the engine's."""
    ends = set()
    for device in _devices(netns):
        with contextlib.suppress(OSError):
            ends.add(socket.if_nametoindex(device))
    with (
        contextlib.suppress(FileNotFoundError),
        netns_names.current() as host_ns,
        netns_names.inside(netns),
        IPRoute() as inner,
    ):
        # Which namespace a peer is in is the kernel's word. A server can have pairs of
        # its own, whose indexes mean nothing on the host.
        ends |= {
            link.get("link")
            for link in inner.get_links(kind="veth")
            if _is_in(inner, link, host_ns)
        }
    return ends


def _is_in(here: IPRoute, link: Any, namespace: int | None) -> bool:
    """Return whether the peer of a link is in another namespace.

    :param here: the link's namespace
    :param namespace: a descriptor; None for no namespace
    """
    there = link.get("link_netnsid")
    return (
        namespace is not None
        and there is not None
        and there == here.get_netnsid(fd=namespace)["nsid"]
    )


def _name_inside(netns: str, index: int) -> str:
    with netns_names.inside(netns), IPRoute() as inner:
        return str(inner.get_links(index)[0].get("ifname"))


def _suits(namespace: int, netns: str, isolated: bool) -> bool:
    """Return whether a namespace belongs to the user namespace that it should.

    :param namespace: a descriptor
    """
    with contextlib.suppress(FileNotFoundError), _user(netns, isolated) as user:
        return userns.owns(user, namespace)
    return False


def _user(netns: str, isolated: bool) -> contextlib.AbstractContextManager[int]:
    """Open a server's user namespace, or else the host's.

    :raises FileNotFoundError: if it does not exist
    """
    return netns_names.open_file(userns.path_of(netns) if isolated else _HOST_USERNS)


def _create(netns: str, isolated: bool) -> None:
    """Create a namespace, whose name may be another one's, and enter it."""
    if isolated:
        with (
            _user(netns, isolated) as user,
            child.making((functools.partial(_unshare_in, user), "net")) as made,
        ):
            pr2_netns.setns(made.next())
    else:
        child.unshare_network()
    netns_names.give(netns)


def _unshare_in(user: int) -> None:
    """Create a network namespace of a user namespace, in a child process."""
    child.check(child.libc.setns(user, child.CLONE_NEWUSER), "setns")
    child.unshare_network()


def _write_sysctls(sysctls: Mapping[str, str], device: str = "") -> None:
    for name, value in sysctls.items():
        # The kernel may have no IPv6.
        with contextlib.suppress(FileNotFoundError):
            pathlib.Path("/proc/sys", name.format(device)).write_text(value)


class _Namespaces(NamedTuple):
    """Where the ends of a veth pair belong, and where its peer may be now.

    :ivar host: the host's namespace, and its descriptor ``host_fd``
    :ivar inner: the server's namespace, which the thread is in, and ``inner_fd``
    :ivar old_fd: the one that it replaces, or the same, or None
    """

    host: IPRoute
    inner: IPRoute
    host_fd: int
    inner_fd: int
    old_fd: int | None


def _ensure_veth(
    spaces: _Namespaces, netns: str, nic: Mapping[str, Any]
) -> tuple[int, bool]:
    """Create a NIC's veth pair if necessary, and bring its peer into the namespace.

    What exists is found from the host: a server may do with its end what it likes.

    :returns: the NIC's interface index, and whether it was there and configured
    """
    is_ready = False
    try:
        [link] = spaces.host.link("get", ifname=nic["host_dev"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise
        index = _add_veth(spaces, nic)
    else:
        is_marked = _parsed(link.get("ifalias"))[0] == netns
        if _is_in(spaces.host, link, spaces.inner_fd):
            index, is_ready = link.get("link"), is_marked
        elif _is_in(spaces.host, link, spaces.old_fd):
            index = _move(spaces, link.get("link"), nic)
        elif is_marked:
            spaces.host.link("del", index=link["index"])
            index = _add_veth(spaces, nic)
        else:
            raise FileExistsError(
                errno.EEXIST, "Not a NIC of this server", nic["host_dev"]
            )
    # Also for an existing pair: a daemon may have been killed before it came to this.
    if not nic["tx_checksum"]:
        name = spaces.inner.get_links(index)[0].get("ifname")
        with contextlib.closing(IoctlEthtool(name)) as ethtool:
            features = ethtool.get_features()
            for feature in _TX_CHECKSUMS:
                features[feature] = False
            ethtool.set_features(features)
    return index, is_ready


def _add_veth(spaces: _Namespaces, nic: Mapping[str, Any]) -> int:
    def add(name: str) -> None:
        spaces.inner.link(
            "add",
            ifname=name,
            kind="veth",
            address=nic["mac"],
            peer={
                "ifname": nic["host_dev"],
                "net_ns_fd": spaces.host_fd,
                "mtu": nic["mtu"],
            },
        )

    try:
        add(nic["name"])
    except NetlinkError as error:
        if error.code != errno.EEXIST:
            raise
        # A server may have given the name to another link, until it starts again.
        add("eth%d")
    [link] = spaces.host.link("get", ifname=nic["host_dev"])
    return int(link.get("link"))


def _move(spaces: _Namespaces, index: int, nic: Mapping[str, Any]) -> int:
    """Move a NIC from the namespace that is replaced into the new one.

    That takes its addresses and routes away.
    """
    pr2_netns.setns(spaces.old_fd)
    try:
        with IPRoute() as old:
            old.link("set", index=index, net_ns_fd=spaces.inner_fd, ifname=nic["name"])
    finally:
        pr2_netns.setns(spaces.inner_fd)
    [index] = spaces.inner.link_lookup(ifname=nic["name"])
    spaces.inner.link("set", index=index, address=nic["mac"])
    return index


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
