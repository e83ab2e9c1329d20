# SPDX-License-Identifier: Apache-2.0
"""A server's NICs: what Neutron asked for, as veths in the server's namespace.

The namespace ``nova-<uuid>`` is made and its NICs are plugged before the
container starts; the OCI runtime then starts it inside. It outlives restarts
of the container, of the engine and of nova-compute, and goes with the server.
os-vif does the virtual switch's side.
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
from oslo_utils import excutils
from oslo_utils import uuidutils
from pyroute2 import netns as pr2_netns

from nova_docker.container.naming import name_of
from nova_docker.privsep import network

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# A server's second NIC with a gateway must not take the default route from
# the first: what is asked for first wins, as the lowest metric does.
_METRIC_STEP = 100

# Where Neutron serves Nova's metadata.
_METADATA = "169.254.169.254/32"


def plan(
    network_info: Sequence[model.VIF],
    *,
    first: int = 0,
    present: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Say what a server's NICs look like in its namespace.

    A NIC keeps its name for as long as the namespace lives; a new one takes the
    first that is free.

    :param first: number of the first NIC; 1 where eth0 is the engine's
    :param present: names of the NICs that are there, by MAC address
    :returns: for each VIF in order, a dict of ``name`` (eth0, ...),
        ``host_dev``, ``mac``, ``mtu`` (bytes), ``tx_checksum`` (whether the
        NIC may leave checksums to the datapath), ``addresses``
        ([(address, prefix length), ...]) and ``routes`` ([(destination,
        gateway or None, metric or 0), ...])
    """
    present = present or {}
    taken = set(present.values())
    free = (n for n in itertools.count(first) if f"eth{n}" not in taken)
    return [
        _nic(vif, number, _METRIC_STEP * (number - first))
        for vif in network_info
        for number in [_number(present.get(vif["address"]), free)]
    ]


def _number(name: str | None, free: Iterator[int]) -> int:
    return int(name.removeprefix("eth")) if name else next(free)


def _nic(vif: model.VIF, number: int, metric: int) -> dict[str, Any]:
    return {
        "name": f"eth{number}",
        "host_dev": _host_dev(vif),
        "mac": vif["address"],
        "mtu": vif["network"].get_meta("mtu") or 1500,
        # OVS's userspace datapaths pass unfinished checksums on to the
        # receiver, which drops the segment: TCP hangs where ping works.
        "tx_checksum": vif["details"].get(model.VIF_DETAILS_OVS_DATAPATH_TYPE)
        in (None, "", model.VIF_DETAILS_OVS_DATAPATH_SYSTEM),
        "addresses": _addresses(vif),
        "routes": _routes(vif, metric),
    }


def nameservers(network_info: model.NetworkInfo) -> list[str]:
    """The DNS servers of all subnets, in order, each once."""
    found = [
        server["address"]
        for vif in network_info
        for subnet in vif["network"]["subnets"]
        for server in subnet["dns"]
    ]
    return list(dict.fromkeys(found))


def _host_dev(vif: model.VIF) -> str:
    return vif["devname"] or ("nic" + vif["id"])[: model.NIC_NAME_LEN]


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
        default = "::/0" if subnet["version"] == 6 else "0.0.0.0/0"
        hosts = {r["cidr"]: r["gateway"]["address"] for r in subnet["routes"]}
        gateway = subnet["gateway"] and subnet["gateway"]["address"]
        if gateway and default not in hosts:
            hosts[default] = gateway
        # The default route last: its gateway may need one of the others.
        routes += [(cidr, via, metric) for cidr, via in sorted(hosts.items())[::-1]]
    # OVN tells of it by DHCP alone, and its routers pass no link-local address.
    bound_by = (vif["details"].get("bound_drivers") or {}).values()
    if "ovn" in bound_by and _METADATA not in (cidr for cidr, _, _ in routes):
        routes.append((_METADATA, None, metric))
    return routes


class Nics:
    """Plugs and unplugs the NICs of servers."""

    def __init__(self, virtapi: VirtAPI) -> None:
        self._virtapi = virtapi
        self._owner = ""

    def init(self, owner: str) -> None:
        """Get ready to plug, at start-up.

        :param owner: id of the engine, which marks the namespaces as its own
        """
        os_vif.initialize()
        self._owner = owner
        network.warm_up()

    def plug(
        self, instance: objects.Instance, network_info: Sequence[model.VIF]
    ) -> None:
        """Give a server its namespace with its NICs; again does no harm.

        :raises VirtualInterfacePlugException: when one cannot be plugged
        """
        vifs = [_to_osvif(vif) for vif in network_info]
        netns = name_of(instance.uuid)
        info = os_vif_util.nova_to_osvif_instance(instance)
        present = network.names(netns)
        for vif in vifs:
            if vif.address not in present:
                # A switch that has the port of a device that went, by a restart
                # of the host, would not see the new one of that name.
                _switch(os_vif.unplug, vif, info)
        nics = plan(network_info, first=_first(), present=present)
        network.plug(netns, self._owner, nics)
        for vif in vifs:
            _switch(os_vif.plug, vif, info)
            if isinstance(vif, osvif.VIFBridge):
                network.join_bridge(vif.vif_name, vif.bridge_name)

    @contextlib.contextmanager
    def attached(
        self, instance: objects.Instance, vif: model.VIF, *, connected: bool
    ) -> Iterator[None]:
        """Give a server one more NIC, which stays if the block succeeds.

        :param connected: False for a server that is switched off
        :raises InterfaceAttachFailed: when it cannot be plugged or the block
            fails; nothing is left
        """
        try:
            self.plug(instance, [vif])
            if not connected:
                self.cut(instance)
            yield
        except Exception as error:
            with excutils.save_and_reraise_exception(reraise=False):
                LOG.exception("Attaching port %s", vif["id"], instance=instance)
                self.detach(instance, vif)
            raise exception.InterfaceAttachFailed(
                instance_uuid=instance.uuid
            ) from error

    def detach(self, instance: objects.Instance, vif: model.VIF) -> None:
        """Take a NIC away, whatever of it is there.

        :raises InterfaceDetachFailed: when the switch refuses
        """
        info = os_vif_util.nova_to_osvif_instance(instance)
        try:
            # What cannot be plugged was never plugged.
            with contextlib.suppress(exception.VirtualInterfacePlugException):
                os_vif.unplug(_to_osvif(vif), info)
        except OsVifException as error:
            raise exception.InterfaceDetachFailed(
                instance_uuid=instance.uuid
            ) from error
        finally:
            network.remove(name_of(instance.uuid), vif["address"])

    def unplug(
        self, instance: objects.Instance, network_info: model.NetworkInfo
    ) -> None:
        """Remove a server's NICs and namespace, whatever of them is there.

        :param network_info: may be empty or stale; what else the namespace
            holds is unplugged too
        :raises VirtualInterfaceUnplugException: when the switch refuses
        """
        vifs = []
        for vif in network_info or []:
            # What cannot be plugged was never plugged.
            with contextlib.suppress(exception.NovaException):
                vifs.append(_to_osvif(vif))
        info = os_vif_util.nova_to_osvif_instance(instance)
        self._unplug(name_of(instance.uuid), vifs, info)

    def cut(self, instance: objects.Instance) -> None:
        """Cut off a server that is switched off; :meth:`plug` connects it again."""
        with contextlib.suppress(FileNotFoundError):
            network.cut(name_of(instance.uuid))

    def sweep(self, servers: Contains[str]) -> None:
        """Remove namespaces of this engine that no server of it uses.

        A nova-compute killed between plugging and creating the container
        leaves one. Namespaces of other engines on the host are not touched.

        :param servers: uuids of the servers that the engine has
        """
        for netns in pr2_netns.listnetns():
            uuid = netns.removeprefix(name_of(""))
            if uuid == netns or uuid in servers:
                continue
            owner, _ = network.describe(netns)
            if owner == self._owner:
                LOG.warning("Removing %s: no server uses it any more", netns)
                info = instance_info.InstanceInfo(uuid=uuid, name=netns)
                self._unplug(netns, [], info)

    @contextlib.contextmanager
    def wired(
        self, instance: objects.Instance, network_info: model.NetworkInfo
    ) -> Iterator[None]:
        """Plug in the block, and leave it when Neutron has wired the ports.

        :raises VirtualInterfaceCreateException: when Neutron reports a failure
            or is not done within ``vif_plugging_timeout``, and
            ``vif_plugging_is_fatal``
        """
        events = [
            ("network-vif-plugged", vif["id"])
            for vif in network_info
            # Only what Neutron says is down will be reported as coming up.
            if CONF.vif_plugging_timeout and vif.get("active", True) is False
        ]
        try:
            with self._virtapi.wait_for_instance_event(
                # By position: Nova renames the time-out from release to release.
                instance,
                events,
                CONF.vif_plugging_timeout,
                _port_failed,
            ):
                yield
        except exception.InstanceEventTimeout as error:
            if CONF.vif_plugging_is_fatal:
                raise exception.VirtualInterfaceCreateException() from error
            LOG.warning("Neutron has not wired all ports", instance=instance)

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
    """Return the number of Nova's first NIC: in bridge mode, eth0 is Docker's."""
    return 1 if CONF.docker.network_mode == "bridge" else 0


def _to_osvif(vif: model.VIF) -> osvif.VIFBase:
    """Nova's VIF as os-vif's.

    :raises VirtualInterfacePlugException: for one that no veth can stand for,
        an SR-IOV port for example
    """
    converted = os_vif_util.nova_to_osvif_vif(vif)
    if not isinstance(converted, osvif.VIFOpenVSwitch | osvif.VIFBridge):
        raise exception.VirtualInterfacePlugException(
            f"Port {vif['id']} has binding type {vif['type']}, vnic type "
            f"{vif['vnic_type']}, which a container cannot have"
        )
    return converted


def _switch(
    change: Callable[..., None],
    vif: osvif.VIFBase,
    info: instance_info.InstanceInfo,
) -> None:
    try:
        change(vif, info)
    except OsVifException as error:
        raise exception.VirtualInterfacePlugException(
            f"Cannot plug port {vif.id}: {error}"
        ) from error


def _leftover(device: str) -> osvif.VIFOpenVSwitch:
    """What os-vif must be told to forget a device of which no VIF is known."""
    return osvif.VIFOpenVSwitch(
        id=uuidutils.generate_uuid(),
        plugin="ovs",
        vif_name=device,
        network=osvif_network.Network(bridge=CONF.neutron.ovs_bridge),
        port_profile=osvif.VIFPortProfileOpenVSwitch(),
    )


def _port_failed(event_name: str, instance: objects.Instance) -> None:
    LOG.error("Neutron reported failure of %s", event_name, instance=instance)
    if CONF.vif_plugging_is_fatal:
        raise exception.VirtualInterfaceCreateException()
