# SPDX-License-Identifier: Apache-2.0
"""A server's NICs: veth pairs between its network namespace and the virtual switch.

The namespace ``nova-<uuid>`` is created and its NICs are plugged before the container
starts; the OCI runtime then starts the container inside it. The namespace outlives
restarts of the container, of the engine and of nova-compute, and is deleted with the
server. os-vif connects the host ends to the switch.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
from collections.abc import Callable
from collections.abc import Container as Contains
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import os_vif
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.network import model
from nova.network import os_vif_util
from nova.virt.virtapi import VirtAPI
from os_vif.exception import ExceptionBase as OsVifException
from os_vif.objects import instance_info
from os_vif.objects import network as osvif_network
from os_vif.objects import vif as osvif
from oslo_log import log as logging
from oslo_utils import uuidutils
from pyroute2 import netns as pr2_netns

from nova_docker import id_ranges
from nova_docker import ovn
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import quota
from nova_docker.privsep import network
from nova_docker.privsep import userns

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# The lowest metric wins, so that the first NIC that was requested has the default route
# even if a later one has a gateway, too.
_METRIC_STEP = 100

# Destinations of default routes, by the version of IP
_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}

# Address at which Neutron serves Nova's metadata.
_METADATA = "169.254.169.254/32"


def plan(
    network_info: Sequence[model.VIF],
    *,
    first: int = 0,
    present: Mapping[str, str] | None = None,
    one_default: bool = False,
) -> list[dict[str, Any]]:
    """Return the configuration of a server's NICs in its namespace.

    A NIC keeps its name for as long as the namespace exists; a new one takes the first
    free name.

    :param first: number of the first NIC; 1 where eth0 belongs to the engine
    :param present: names of the existing NICs, by their host ends
    :param one_default: whether only the NIC with the lowest metric has a default route.
        gVisor does not start with two of them.
    :returns: for each VIF in order, a dict of ``name`` (eth0, ...), ``host_dev``,
        ``mac``, ``mtu`` (bytes), ``tx_checksum`` (whether the NIC may leave checksums
        to the datapath), ``addresses`` ([(address, prefix length), ...]) and
        ``routes`` ([(destination, gateway or None, metric or 0), ...])
    """
    present = present or {}
    taken = set(present.values())
    free = (n for n in itertools.count(first) if f"eth{n}" not in taken)
    names = [present.get(_host_dev(vif)) or f"eth{next(free)}" for vif in network_info]
    nics = [
        _nic(vif, name, _METRIC_STEP * (int(name.removeprefix("eth")) - first))
        for vif, name in zip(network_info, names, strict=True)
    ]
    if one_default:
        _drop_defaults(nics)
    return nics


def _drop_defaults(nics: list[dict[str, Any]]) -> None:
    """Leave out all default routes of a family but the one with the lowest metric."""
    found: set[str] = set()
    for nic in sorted(nics, key=lambda nic: int(nic["name"].removeprefix("eth"))):
        nic["routes"] = [r for r in nic["routes"] if r[0] not in found]
        found |= {r[0] for r in nic["routes"]} & set(_DEFAULTS.values())


def _nic(vif: model.VIF, name: str, metric: int) -> dict[str, Any]:
    return {
        "name": name,
        "host_dev": _host_dev(vif),
        "mac": vif["address"],
        "mtu": vif["network"].get_meta("mtu") or 1500,
        # The userspace datapaths of OVS pass unfinished checksums on to the receiver,
        # which drops the segment: ping would work, but TCP would hang.
        "tx_checksum": vif["details"].get(model.VIF_DETAILS_OVS_DATAPATH_TYPE)
        in (None, "", model.VIF_DETAILS_OVS_DATAPATH_SYSTEM),
        "addresses": _addresses(vif),
        "routes": _routes(vif, metric),
    }


def nameservers(network_info: model.NetworkInfo) -> list[str]:
    """Return the DNS servers of all subnets, in order and without duplicates."""
    found = [
        server["address"]
        for vif in network_info
        for subnet in vif["network"]["subnets"]
        for server in subnet["dns"]
    ]
    return list(dict.fromkeys(found))


def _host_dev(vif: model.VIF) -> str:
    return vif["devname"] or ("nic" + vif["id"])[: model.NIC_NAME_LEN]


def _shapers(rate: quota.Rate | None) -> list[dict[str, int]]:
    """Return the arguments of the kernel's shapers, each of which feeds the one before.

    The first one keeps the average, with a bucket for bursts, and the second the peak.
    """
    if rate is None:
        return []
    shapers = [{"rate": rate.average, "burst": rate.burst, "limit": rate.queue}]
    if rate.peak:
        bucket = min(rate.burst, quota.MIN_BUCKET)
        shapers.append({"rate": rate.peak, "burst": bucket, "limit": rate.queue})
    return shapers


def _addresses(vif: model.VIF) -> list[tuple[str, int]]:
    return [
        (ip["address"], ipaddress.ip_network(subnet["cidr"]).prefixlen)
        for subnet in vif["network"]["subnets"]
        for ip in subnet["ips"]
    ]


def _routes(vif: model.VIF, metric: int) -> list[tuple[str, str | None, int]]:
    routes = []
    for subnet in vif["network"]["subnets"]:
        if not subnet["ips"]:
            continue
        default = _DEFAULTS[subnet["version"]]
        hosts = {r["cidr"]: r["gateway"]["address"] for r in subnet["routes"]}
        gateway = subnet["gateway"] and subnet["gateway"]["address"]
        if gateway and default not in hosts:
            hosts[default] = gateway
        # The default route comes last: its gateway may need one of the others.
        routes += [(cidr, via, metric) for cidr, via in sorted(hosts.items())[::-1]]
    # OVN announces this route by DHCP only, and its routers do not forward link-local
    # addresses.
    if _is_ovn(vif) and _METADATA not in (cidr for cidr, _, _ in routes):
        routes.append((_METADATA, None, metric))
    return routes


def _is_ovn(vif: model.VIF) -> bool:
    return "ovn" in (vif["details"].get("bound_drivers") or {}).values()


class Nics:
    """Plugs and unplugs the NICs of servers."""

    def __init__(self, virtapi: VirtAPI) -> None:
        self._virtapi = virtapi
        self._ovn = ovn.Ports()
        self._owner = ""

    def init(self, owner: str) -> None:
        """Load os-vif's plugins and start the privileged daemon.

        :param owner: identifies the engine, whose namespaces are marked with it
        """
        os_vif.initialize()
        self._owner = owner
        network.warm_up()

    def plug(
        self,
        instance: objects.Instance,
        network_info: Sequence[model.VIF],
        *,
        level: str,
        connected: bool = True,
        renew: bool = False,
    ) -> None:
        """Create a server's namespaces and NICs, or bring existing ones in line.

        :param level: the server's, of :mod:`nova_docker.container.isolation`
        :param connected: False for a server that does not run
        :param renew: whether no process of the server runs. What it may have done to
            its NICs and to the rest of its network namespace is then undone, and NICs
            that are not in ``network_info`` are removed.
        :raises VirtualInterfacePlugException: if a NIC cannot be plugged, or all ids
            are in use
        """
        vifs = [_to_osvif(vif) for vif in network_info]
        netns = naming.name_of(instance.uuid)
        info = os_vif_util.nova_to_osvif_instance(instance)
        isolated = level == isolation.USER
        gvisor = level == isolation.GVISOR
        if isolated:
            self._pin(netns)
        present = network.names(netns)
        if renew:
            for device in present.keys() - {vif.vif_name for vif in vifs}:
                # Neutron has deleted its port while it could not be detached.
                _switch(os_vif.unplug, _leftover(device), info)
                network.remove(netns, device)
                del present[device]
        for vif in vifs:
            if vif.vif_name not in present:
                # After a restart of the host the switch still has a port for the lost
                # device, and would ignore a new device of the same name.
                _switch(os_vif.unplug, vif, info)
        nics = plan(network_info, first=_first(), present=present, one_default=gvisor)
        network.plug(
            netns,
            self._owner,
            nics,
            "up" if connected else "down",
            isolated=isolated,
            # gVisor takes the addresses and routes away when the server starts. If the
            # kernel had them again, it would answer for the server.
            keep=gvisor,
            renew=(isolated or gvisor) and renew,
        )
        if quota.sending(instance.flavor):
            self.limit(instance, network_info, instance.flavor)
        for vif in vifs:
            _switch(os_vif.plug, vif, info)
            if isinstance(vif, osvif.VIFBridge):
                network.join_bridge(vif.vif_name, vif.bridge_name)

    def _pin(self, name: str) -> None:
        start, count = CONF.docker.subid_start, CONF.docker.subid_count
        try:
            userns.pin(name, self._owner, start, count)
        except id_ranges.NoneLeft as error:
            raise exception.VirtualInterfacePlugException(str(error)) from error

    @contextlib.contextmanager
    def attached(
        self,
        instance: objects.Instance,
        vif: model.VIF,
        *,
        level: str,
        connected: bool,
    ) -> Iterator[None]:
        """Plug one more NIC, and unplug it again if the block fails.

        :param level: as for :meth:`plug`
        :param connected: False for a server that does not run
        :raises InterfaceAttachFailed: if the NIC cannot be plugged or the block fails
        """
        try:
            self.plug(instance, [vif], level=level, connected=connected)
            yield
        except Exception as error:
            LOG.exception("Failed to attach port %s", vif["id"], instance=instance)
            self.detach(instance, vif)
            raise exception.InterfaceAttachFailed(
                instance_uuid=instance.uuid
            ) from error

    def limit(
        self, instance: objects.Instance, network_info: Any, flavor: objects.Flavor
    ) -> None:
        """Give a server's NICs the limits of a flavor, or no limits.

        A NIC that does not exist is left out: plugging it applies its limits.
        """
        network.shape(
            naming.name_of(instance.uuid),
            [_host_dev(vif) for vif in network_info or []],
            _shapers(quota.sending(flavor)),
        )

    def detach(self, instance: objects.Instance, vif: model.VIF) -> None:
        """Remove a NIC, or whatever exists of it.

        :raises InterfaceDetachFailed: if the virtual switch refuses
        """
        info = os_vif_util.nova_to_osvif_instance(instance)
        try:
            # A port of an unsupported type was never plugged.
            with contextlib.suppress(exception.VirtualInterfacePlugException):
                os_vif.unplug(_to_osvif(vif), info)
        except OsVifException as error:
            raise exception.InterfaceDetachFailed(
                instance_uuid=instance.uuid
            ) from error
        finally:
            network.remove(naming.name_of(instance.uuid), _host_dev(vif))

    def unplug(
        self, instance: objects.Instance, network_info: model.NetworkInfo
    ) -> None:
        """Remove a server's NICs and network namespace, or whatever exists of them.

        Its user namespace remains, see :meth:`release`.

        :param network_info: may be empty or stale; other NICs in the namespace are
            unplugged, too
        :raises VirtualInterfaceUnplugException: if the virtual switch refuses
        """
        vifs = []
        for vif in network_info or []:
            # A port of an unsupported type was never plugged.
            with contextlib.suppress(exception.NovaException):
                vifs.append(_to_osvif(vif))
        info = os_vif_util.nova_to_osvif_instance(instance)
        self._unplug(naming.name_of(instance.uuid), vifs, info)

    def release(self, uuid: str) -> None:
        """Release the ids of a server whose container is gone, if it has any."""
        userns.release(naming.name_of(uuid))

    def cut(self, instance: objects.Instance) -> None:
        """Disconnect a server that does not run, if it has NICs.

        :meth:`plug` and :meth:`reconnect` revert it.
        """
        with contextlib.suppress(FileNotFoundError):
            network.cut(naming.name_of(instance.uuid))

    def reconnect(self, instance: objects.Instance) -> None:
        """Connect the NICs that a server has, before it runs again."""
        with contextlib.suppress(FileNotFoundError):
            network.reconnect(naming.name_of(instance.uuid))

    def sweep(self, servers: Contains[str]) -> None:
        """Remove this engine's namespaces that none of its servers uses.

        nova-compute leaves one if it is killed between plugging the NICs and creating
        the container; and the ids of a server that did not answer when it was deleted.
        Namespaces of other engines on the host are not touched.

        :param servers: UUIDs of the engine's servers
        """
        for netns in pr2_netns.listnetns():
            uuid = netns.removeprefix(naming.PREFIX)
            if uuid == netns or uuid in servers:
                continue
            owner, _ = network.describe(netns)
            if owner == self._owner:
                LOG.warning("Removing network namespace %s: no server uses it", netns)
                info = instance_info.InstanceInfo(uuid=uuid, name=netns)
                self._unplug(netns, [], info)
        for name in userns.owned_by(self._owner):
            uuid = name.removeprefix(naming.PREFIX)
            if uuid not in servers:
                LOG.warning("Releasing the ids of server %s, which is gone", uuid)
                self.release(uuid)

    @contextlib.contextmanager
    def wired(
        self, instance: objects.Instance, network_info: model.NetworkInfo
    ) -> Iterator[None]:
        """Wait at the end of the block, which plugs, until Neutron has wired the ports.

        If OVN has installed their flows on this host, they are wired, and Neutron's
        events are not waited for.

        :raises VirtualInterfaceCreateException: if Neutron reports a failure or takes
            longer than ``vif_plugging_timeout``, and ``vif_plugging_is_fatal`` is set
        """
        vifs = [
            vif
            for vif in network_info
            # Neutron sends the event only for ports that are down.
            if CONF.vif_plugging_timeout and vif.get("active", True) is False
        ]
        events = [("network-vif-plugged", vif["id"]) for vif in vifs]
        watched = [vif["id"] for vif in vifs] if all(map(_is_ovn, vifs)) else []
        try:
            with (
                self._virtapi.wait_for_instance_event(
                    # Positional, because the name of the timeout differs between
                    # releases.
                    instance,
                    events,
                    CONF.vif_plugging_timeout,
                    _port_failed,
                ),
                self._ovn.watched(watched) as are_installed,
            ):
                yield
                if are_installed():
                    # Nova still expects the events, and so does not warn of them.
                    self._virtapi.exit_wait_early(events)
        except exception.InstanceEventTimeout as error:
            if CONF.vif_plugging_is_fatal:
                raise exception.VirtualInterfaceCreateException() from error
            LOG.warning(
                "Neutron did not wire all ports within %d seconds; continuing, because "
                "vif_plugging_is_fatal is false",
                CONF.vif_plugging_timeout,
                instance=instance,
            )

    def _unplug(
        self,
        netns: str,
        vifs: list[osvif.VIFBase],
        info: instance_info.InstanceInfo,
    ) -> None:
        known = {vif.vif_name for vif in vifs}
        _, devices = network.describe(netns)
        vifs = vifs + [_leftover(dev) for dev in devices if dev not in known]
        try:
            for vif in vifs:
                os_vif.unplug(vif, info)
        except OsVifException as error:
            raise exception.VirtualInterfaceUnplugException(
                reason=str(error)
            ) from error
        finally:
            network.unplug(netns)


def _first() -> int:
    """Return the number of the first NIC: in bridge mode, eth0 belongs to Docker."""
    return 1 if CONF.docker.network_mode == "bridge" else 0


def _to_osvif(vif: model.VIF) -> osvif.VIFBase:
    """Convert a VIF of Nova's to one of os-vif's.

    :raises VirtualInterfacePlugException: for a port that cannot be a veth, such as an
        SR-IOV port
    """
    converted = os_vif_util.nova_to_osvif_vif(vif)
    if not isinstance(converted, osvif.VIFOpenVSwitch | osvif.VIFBridge):
        raise exception.VirtualInterfacePlugException(
            f"Containers do not support port {vif['id']}: its binding type is "
            f"{vif['type']} and its vnic type {vif['vnic_type']}; use a port of vnic "
            "type normal, bound by OVN, Open vSwitch or Linux bridge"
        )
    return converted


def _switch(
    change: Callable[..., None],
    vif: osvif.VIFBase,
    info: instance_info.InstanceInfo,
) -> None:
    """Call one of os-vif's functions.

    :raises VirtualInterfacePlugException: if the virtual switch refuses
    """
    try:
        change(vif, info)
    except OsVifException as error:
        raise exception.VirtualInterfacePlugException(
            f"The virtual switch failed to plug or unplug {vif.vif_name}: {error}"
        ) from error


def _leftover(device: str) -> osvif.VIFOpenVSwitch:
    """Return a VIF with which os-vif can unplug a device whose own VIF is unknown."""
    return osvif.VIFOpenVSwitch(
        id=uuidutils.generate_uuid(),
        plugin="ovs",
        vif_name=device,
        network=osvif_network.Network(bridge=CONF.neutron.ovs_bridge),
        port_profile=osvif.VIFPortProfileOpenVSwitch(),
    )


def _port_failed(event_name: str, instance: objects.Instance) -> None:
    LOG.error("Neutron reported failure on event %s", event_name, instance=instance)
    if CONF.vif_plugging_is_fatal:
        raise exception.VirtualInterfaceCreateException()
