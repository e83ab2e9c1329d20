# SPDX-License-Identifier: Apache-2.0
"""What is in the cloud: users, images, networks, flavors, a first server.

This runs in the virtual environment, through OpenStack's own client library,
as ``python -m cloud.contents PART``. Each part leaves alone what is there.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import amqp  # type: ignore
import openstack
from openstack.connection import Connection

from cloud import commands
from cloud import configuration
from cloud import images
from cloud import settings
from cloud import supervisor
from cloud.settings import PORTS
from cloud.settings import REGION

# name: (type, path of its API)
SERVICES = {
    "placement": ("placement", "placement", ""),
    "glance": ("image", "glance", ""),
    "neutron": ("network", "neutron", ""),
    "nova": ("compute", "nova-api", "/v2.1"),
}

FLAVORS: tuple[dict[str, Any], ...] = (
    {"name": "docker.tiny", "vcpus": 1, "ram": 64, "disk": 1},
    {"name": "docker.small", "vcpus": 1, "ram": 512, "disk": 5},
)

# What may come in, in both projects: ping and SSH.
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

FAKE_TRAIT = "CUSTOM_FAKE_COMPUTE"


def connect(user: str = "admin") -> Connection:
    return openstack.connection.Connection(
        auth=configuration.credentials(user), region_name=REGION
    )


def users() -> None:
    """Make the services' users and endpoints, and the project and user demo."""
    identity = connect().identity
    passwords = settings.secrets()
    roles = {role.name: role for role in identity.roles()}
    service = _named(identity.find_project, identity.create_project, "service")
    if "service" not in roles:
        roles["service"] = identity.create_role(name="service")
    for name, (kind, listener, path) in SERVICES.items():
        user = _named(
            identity.find_user,
            identity.create_user,
            name,
            password=passwords["service"],
        )
        for role in ("admin", "service"):
            identity.assign_project_role_to_user(service, user, roles[role])
        entry = _named(identity.find_service, identity.create_service, name, type=kind)
        if not list(identity.endpoints(service_id=entry.id)):
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(
                    service_id=entry.id,
                    interface=interface,
                    region_id=REGION,
                    url=f"http://127.0.0.1:{PORTS[listener]}{path}",
                )
    # Glance asks for this role of who registers an image of a registry.
    identity.assign_project_role_to_user(
        identity.find_project("admin"), identity.find_user("admin"), roles["service"]
    )
    # Who says in Glance what the engine has.
    user = _named(
        identity.find_user,
        identity.create_user,
        "glance-docker-sync",
        password=passwords["service"],
    )
    for role in ("admin", "service"):
        identity.assign_project_role_to_user(service, user, roles[role])
    project = _named(identity.find_project, identity.create_project, "demo")
    demo = _named(
        identity.find_user,
        identity.create_user,
        "demo",
        password=passwords["demo"],
        default_project_id=project.id,
    )
    for role in ("member", "reader"):
        identity.assign_project_role_to_user(project, demo, roles[role])


def images_listed() -> None:
    """Wait until Glance lists the images that were made on the engine."""
    api = connect().image

    def listed() -> bool:
        return all(
            any(image.status == "active" for image in api.images(name=name))
            for name in images.NAMES
        )

    log = settings.LOG / "glance-docker-sync.log"
    commands.wait_until(listed, f"Glance does not list {images.NAMES}, see {log}")


def new_image(cloud: Connection, name: str) -> str:
    """Return the id of a public image that has no data yet."""
    made = cloud.image.post(
        "/images",
        json={
            "name": name,
            "container_format": "docker",
            "disk_format": "raw",
            "visibility": "public",
        },
    )
    made.raise_for_status()
    return str(made.json()["id"])


def upload(cloud: Connection, image_id: str, data: Any) -> None:
    """Give an image its data.

    :param data: a file, or chunks of bytes
    """
    cloud.image.put(
        f"/images/{image_id}/file",
        data=data,
        headers={"Content-Type": "application/octet-stream"},
    ).raise_for_status()


def networks() -> None:
    """Make the networks public and private, and the router between them."""
    network = connect().network
    public = _named(
        network.find_network,
        network.create_network,
        "public",
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network="public",
    )
    _named(
        network.find_subnet,
        network.create_subnet,
        "public-ipv4",
        network_id=public.id,
        ip_version=4,
        cidr=settings.PUBLIC_CIDR,
        gateway_ip=settings.PUBLIC_GATEWAY,
        is_dhcp_enabled=False,
    )
    private = _named(
        network.find_network, network.create_network, "private", is_shared=True
    )
    subnets = [
        _named(
            network.find_subnet,
            network.create_subnet,
            "private-ipv4",
            network_id=private.id,
            ip_version=4,
            cidr="10.20.0.0/24",
        ),
        _named(
            network.find_subnet,
            network.create_subnet,
            "private-ipv6",
            network_id=private.id,
            ip_version=6,
            cidr="fd20::/64",
            ipv6_ra_mode="slaac",
            ipv6_address_mode="slaac",
        ),
    ]
    router = _named(
        network.find_router,
        network.create_router,
        "router",
        external_gateway_info={"network_id": public.id},
    )
    ports = network.ports(device_id=router.id, network_id=private.id)
    attached = {ip["subnet_id"] for port in ports for ip in port.fixed_ips}
    for subnet in subnets:
        if subnet.id not in attached:
            network.add_interface_to_router(router, subnet_id=subnet.id)
    for user in configuration.USERS:
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


def flavors() -> None:
    """Make the flavors, and both users' key pair."""
    public_key = settings.SSH_KEY.with_suffix(".key.pub").read_text()
    for user in configuration.USERS:
        compute = connect(user).compute
        if user == "admin":
            for flavor in FLAVORS:
                _named(compute.find_flavor, compute.create_flavor, **flavor)
        _named(
            compute.find_keypair,
            compute.create_keypair,
            "quickstart",
            public_key=public_key,
        )


def compute_ready() -> None:
    """Wait until nova-compute takes calls."""
    _await_compute(settings.HOST, "nova-compute")


def forget_fake_compute() -> None:
    """Delete the fake nova-compute of before: it has no identity that it keeps.

    Nova refuses to start a nova-compute that has lost its own.
    """
    compute = connect().compute
    for service in compute.services(binary="nova-compute", host=settings.FAKE_HOST):
        compute.delete_service(service)


def fake_compute() -> None:
    """Give the fake nova-compute a zone, and a trait that real servers lack.

    Only servers of the flavor ``fake.tiny`` are scheduled to it. Nova's fake driver
    does not say the host's architecture, for which images ask.
    """
    cloud = connect()
    host = settings.FAKE_HOST
    _await_compute(host, "nova-compute-fake")

    def provider() -> Any:
        found = cloud.placement.resource_providers(name=host)
        return next(iter(found), None)

    found = commands.wait_until(provider, f"resource provider {host}")
    headers = {"OpenStack-API-Version": "placement 1.6"}
    cloud.placement.put(f"/traits/{FAKE_TRAIT}", headers=headers).raise_for_status()
    url = f"/resource_providers/{found.id}/traits"
    body = cloud.placement.get(url, headers=headers).json()
    architecture = f"HW_ARCH_{platform.machine().upper()}"
    body["traits"] = sorted({*body["traits"], FAKE_TRAIT, architecture})
    cloud.placement.put(url, json=body, headers=headers).raise_for_status()
    compute = cloud.compute
    aggregate = _named(
        compute.find_aggregate,
        compute.create_aggregate,
        "fake",
        availability_zone="fake",
    )
    required = {f"trait:{FAKE_TRAIT}": "required"}
    compute.set_aggregate_metadata(aggregate, required)
    if host not in (aggregate.hosts or []):
        # The host has to be mapped to its cell before it is known.
        commands.wait_until(
            lambda: _add_to_aggregate(compute, aggregate, host), f"host {host}"
        )
    if not compute.find_flavor("fake.tiny"):
        flavor = compute.create_flavor(name="fake.tiny", vcpus=1, ram=64, disk=1)
        compute.create_flavor_extra_specs(flavor, required)


def _add_to_aggregate(compute: Any, aggregate: Any, host: str) -> bool:
    try:
        compute.add_host_to_aggregate(aggregate, host)
    except openstack.exceptions.NotFoundException:
        return False
    return True


def _await_compute(host: str, service: str) -> None:
    log = settings.LOG / f"{service}.log"

    def ready() -> bool:
        if supervisor.state(service)["statename"] == "FATAL":
            raise commands.Failed(f"{service} does not stay up; its log is {log}")
        return _consumes(host) and _is_up(host)

    commands.wait_until(ready, f"{service} is not ready, see {log}", interval=0.5)


def _is_up(host: str) -> bool:
    """Tell whether the scheduler takes ``host``: one that was away is down."""
    services = connect().compute.services(binary="nova-compute", host=host)
    return any(service.state == "up" for service in services)


def _consumes(host: str) -> bool:
    """Tell whether nova-compute of ``host`` listens to the broker."""
    with amqp.Connection(
        host=f"127.0.0.1:{PORTS['rabbitmq']}",
        userid="openstack",
        password=settings.secrets()["rabbitmq"],
    ) as connection:
        try:
            queue = connection.channel().queue_declare(f"compute.{host}", passive=True)
        except amqp.exceptions.NotFound:
            return False
        return queue.consumer_count > 0


def server() -> None:
    """Boot the first server, and wait until SSH works through its floating IP.

    Its floating IP is the last line printed.
    """
    cloud = connect()
    found = cloud.get_server("quickstart")
    if found and found.status == "ERROR":
        cloud.delete_server(found.id, wait=True)
        found = None
    if not found:
        # It is listed when its host is mapped to its cell.
        commands.wait_until(
            lambda: any(
                hypervisor.name == settings.HOST and hypervisor.state == "up"
                for hypervisor in cloud.compute.hypervisors(details=True)
            ),
            "the scheduler does not know nova-compute's host",
            interval=0.5,
        )
        found = cloud.compute.create_server(
            name="quickstart",
            image_id=cloud.image.find_image(images.DEBIAN, ignore_missing=False).id,
            flavor_id=cloud.compute.find_flavor(
                "docker.small", ignore_missing=False
            ).id,
            networks=[{"uuid": cloud.network.find_network("private").id}],
            key_name="quickstart",
        )
    commands.wait_until(lambda: _is_active(cloud, found.id), "the server quickstart")
    address = _floating_ip(cloud, found.id)
    # Nova may be about to find out that it went off with the machine.
    commands.wait_until(
        lambda: _is_active(cloud, found.id) and _ssh_works(address),
        f"SSH to {address}",
    )
    print(address)


def _is_active(cloud: Connection, server_id: str) -> bool:
    """Tell whether the server is on; switch it on when it is off."""
    found = cloud.compute.get_server(server_id)
    if found.status == "ERROR":
        reason = (found.fault or {}).get("message", "no reason given")
        raise commands.Failed(f"the server quickstart is in ERROR: {reason}")
    if found.status == "SHUTOFF" and found.task_state is None:
        cloud.compute.start_server(found.id)
    return found.status == "ACTIVE"


def _floating_ip(cloud: Connection, server_id: str) -> str:
    """Return the first server's floating IP; one is kept for it, and reused."""
    port = next(cloud.network.ports(device_id=server_id))
    for existing in cloud.network.ips(port_id=port.id):
        return existing.floating_ip_address
    address = next(iter(cloud.network.ips(description="quickstart")), None)
    if address is None:
        address = cloud.network.create_ip(
            floating_network_id=cloud.network.find_network("public").id,
            description="quickstart",
        )
    fixed = [ip["ip_address"] for ip in port.fixed_ips]
    cloud.network.update_ip(
        address,
        port_id=port.id,
        fixed_ip_address=next(ip for ip in fixed if ":" not in ip),
    )
    return address.floating_ip_address


def _ssh_works(address: str) -> bool:
    return (
        subprocess.run(
            [
                *("ssh", "-i", settings.SSH_KEY, "-F", "/dev/null"),
                *("-o", "BatchMode=yes", "-o", "ConnectTimeout=2"),
                *("-o", "StrictHostKeyChecking=no"),
                *("-o", "UserKnownHostsFile=/dev/null"),
                *(f"root@{address}", "true"),
            ],
            stdin=subprocess.DEVNULL,
            check=False,
        ).returncode
        == 0
    )


def _named(
    find: Callable[..., Any], create: Callable[..., Any], name: str, **values: Any
) -> Any:
    return find(name) or create(name=name, **values)


PARTS = (
    users,
    images_listed,
    networks,
    flavors,
    compute_ready,
    server,
    fake_compute,
    forget_fake_compute,
)

if __name__ == "__main__":
    parts = {part.__name__: part for part in PARTS}
    try:
        for part in sys.argv[1:]:
            parts[part]()
    except commands.Failed as error:
        sys.exit(str(error))
