# SPDX-License-Identifier: Apache-2.0
"""Servers, images and NICs as Nova passes them to a driver."""

from __future__ import annotations

from typing import Any

from nova import context
from nova import objects
from nova.compute import vm_states
from nova.network import model
from oslo_utils import uuidutils

objects.register_all()


def request_context() -> context.RequestContext:
    return context.RequestContext("user", "project", is_admin=True)


def flavor(**values: Any) -> objects.Flavor:
    return objects.Flavor(
        **{
            "id": 1,
            "name": "docker.tiny",
            "memory_mb": 64,
            "vcpus": 1,
            "root_gb": 1,
            "ephemeral_gb": 0,
            "swap": 0,
            "extra_specs": {},
        }
        | values
    )


def instance(**values: Any) -> objects.Instance:
    return objects.Instance(
        context=request_context(),
        **{
            "id": 26,
            "uuid": uuidutils.generate_uuid(),
            "hostname": "web-1",
            "display_name": "web 1",
            "project_id": "project",
            "user_id": "user",
            "vm_state": vm_states.ACTIVE,
            "task_state": None,
            "image_ref": "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd",
            "flavor": flavor(),
            "system_metadata": {},
            "config_drive": "",
            "launched_at": None,
            "trusted_certs": None,
            "numa_topology": None,
            "migration_context": None,
            "os_type": None,
            "key_data": None,
        }
        | values,
    )


def migration() -> objects.Migration:
    """Return a resize on the same host."""
    return objects.Migration(source_compute="this-host", dest_compute="this-host")


def image_meta(**values: Any) -> objects.ImageMeta:
    return objects.ImageMeta.from_dict(
        {
            "id": "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd",
            "name": "busybox",
            "status": "active",
            "container_format": "docker",
            "disk_format": "raw",
            "min_ram": 0,
            "min_disk": 0,
            "properties": {},
        }
        | values
    )


def subnet(
    cidr: str,
    *addresses: str,
    gateway: str | None = None,
    dns: tuple[str, ...] = (),
    routes: dict[str, str] | None = None,
) -> model.Subnet:
    return model.Subnet(
        cidr=cidr,
        ips=[model.FixedIP(address=address) for address in addresses],
        gateway=model.IP(address=gateway, type="gateway") if gateway else None,
        dns=[model.IP(address=address, type="dns") for address in dns],
        routes=[
            model.Route(cidr=to, gateway=model.IP(address=via, type="gateway"))
            for to, via in (routes or {}).items()
        ],
        version=6 if ":" in cidr else 4,
    )


def vif(*subnets: model.Subnet, mtu: int = 1442, **values: Any) -> model.VIF:
    """Return a port bound by OVN or ML2/OVS to the userspace datapath of OVS."""
    port = uuidutils.generate_uuid()
    network = model.Network(
        id=uuidutils.generate_uuid(),
        bridge="br-int",
        label="private",
        subnets=list(subnets),
        mtu=mtu,
    )
    return model.VIF(
        **{
            "id": port,
            "address": "fa:16:3e:" + ":".join((port[:2], port[2:4], port[4:6])),
            "network": network,
            "type": model.VIF_TYPE_OVS,
            "details": {"port_filter": True, "datapath_type": "netdev"},
            "devname": "tap" + port[:11],
            "ovs_interfaceid": port,
            "vnic_type": model.VNIC_TYPE_NORMAL,
            "active": True,
            "delegate_create": True,
        }
        | values
    )


def nics(*vifs: model.VIF) -> model.NetworkInfo:
    return model.NetworkInfo(vifs)


def uuid() -> str:
    return uuidutils.generate_uuid()
