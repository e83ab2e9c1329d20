# SPDX-License-Identifier: Apache-2.0
"""Neutron: networks, the router, and security groups."""

from __future__ import annotations

from typing import Any

from openstack.connection import Connection

from cloud import credentials
from cloud import settings
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create

# Ingress that the default security groups of both projects allow: ping and SSH.
RULES: tuple[dict[str, Any], ...] = (
    {"protocol": "icmp", "ethertype": "IPv4"},
    {"protocol": "ipv6-icmp", "ethertype": "IPv6"},
    {
        "protocol": "tcp",
        "ethertype": "IPv4",
        "port_range_min": 22,
        "port_range_max": 22,
    },
    {
        "protocol": "tcp",
        "ethertype": "IPv6",
        "port_range_min": 22,
        "port_range_max": 22,
    },
)

# Name, prefix of all subnets, and the length of each one's
SUBNET_POOLS = (
    ("default-ipv4", "10.64.0.0/16", 26),
    ("default-ipv6", "fd40::/48", 64),
)


def create_networks() -> None:
    """Create the networks public and private, the router between them, and pools.

    The last two belong to the project demo, as if its user had created them. Users of
    admin may use them, too.
    """
    cloud = connect()
    network, demo = cloud.network, cloud.identity.find_project("demo").id
    # Were it admin's, Nova would put servers without a network option on it.
    service = cloud.identity.find_project("service").id
    public = find_or_create(
        network.find_network,
        network.create_network,
        "public",
        is_router_external=True,
        is_default=True,
        project_id=service,
        provider_network_type="flat",
        provider_physical_network="public",
    )
    find_or_create(
        network.find_subnet,
        network.create_subnet,
        "public-ipv4",
        network_id=public.id,
        project_id=service,
        ip_version=4,
        cidr=settings.PUBLIC_CIDR,
        gateway_ip=settings.PUBLIC_GATEWAY,
        is_dhcp_enabled=False,
    )
    # With these, and a default external network, `--nic auto` makes a network.
    for name, prefix, length in SUBNET_POOLS:
        find_or_create(
            network.find_subnet_pool,
            network.create_subnet_pool,
            name,
            prefixes=[prefix],
            default_prefix_length=length,
            is_default=True,
            is_shared=True,
        )
    private = find_or_create(
        network.find_network, network.create_network, "private", project_id=demo
    )
    subnets = [
        find_or_create(
            network.find_subnet,
            network.create_subnet,
            "private-ipv4",
            network_id=private.id,
            project_id=demo,
            ip_version=4,
            cidr="10.20.0.0/24",
        ),
        find_or_create(
            network.find_subnet,
            network.create_subnet,
            "private-ipv6",
            network_id=private.id,
            project_id=demo,
            ip_version=6,
            cidr="fd20::/64",
            ipv6_ra_mode="slaac",
            ipv6_address_mode="slaac",
        ),
    ]
    router = find_or_create(
        network.find_router,
        network.create_router,
        "router",
        project_id=demo,
        external_gateway_info={"network_id": public.id},
    )
    ports = network.ports(device_id=router.id, network_id=private.id)
    attached = {ip["subnet_id"] for port in ports for ip in port.fixed_ips}
    for subnet in subnets:
        if subnet.id not in attached:
            network.add_interface_to_router(router, subnet_id=subnet.id)
    for user in credentials.USERS:
        _open_default_group(connect(user))


def _open_default_group(cloud: Connection) -> None:
    project = cloud.current_project_id
    group = next(cloud.network.security_groups(name="default", project_id=project))
    for rule in RULES:
        found = cloud.network.security_group_rules(
            security_group_id=group.id, direction="ingress", **rule
        )
        if not list(found):
            cloud.network.create_security_group_rule(
                security_group_id=group.id, direction="ingress", **rule
            )
