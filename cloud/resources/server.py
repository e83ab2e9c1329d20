# SPDX-License-Identifier: Apache-2.0
"""The first server, with a floating IP."""

from __future__ import annotations

import subprocess

from openstack.connection import Connection

from cloud import images
from cloud import settings
from cloud.errors import QuickstartError
from cloud.probes import wait_until
from cloud.resources.connection import connect


def boot_first_server() -> None:
    """Boot the first server, and wait until SSH works through its floating IP.

    Print the floating IP as the last line.
    """
    cloud = connect()
    found = cloud.get_server("quickstart")
    if found and found.status == "ERROR":
        cloud.delete_server(found.id, wait=True)
        found = None
    if not found:
        # Nova lists the hypervisor as soon as its host is mapped to its cell.
        wait_until(
            lambda: any(
                hypervisor.name == settings.HOST and hypervisor.state == "up"
                for hypervisor in cloud.compute.hypervisors(details=True)
            ),
            f"Nova does not list the host {settings.HOST} as up",
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
    wait_until(
        lambda: _is_active(cloud, found.id), "the server quickstart is not ACTIVE"
    )
    address = _floating_ip(cloud, found.id)
    # After a reboot of the machine, Nova may not know yet that the server is off.
    wait_until(
        lambda: _is_active(cloud, found.id) and _ssh_works(address),
        f"the server quickstart does not accept SSH at {address}",
    )
    print(address)


def _is_active(cloud: Connection, server_id: str) -> bool:
    """Tell whether the server is ACTIVE; start it when it is SHUTOFF."""
    found = cloud.compute.get_server(server_id)
    if found.status == "ERROR":
        reason = (found.fault or {}).get("message", "no reason given")
        raise QuickstartError(f"the server quickstart is in status ERROR: {reason}")
    if found.status == "SHUTOFF" and found.task_state is None:
        cloud.compute.start_server(found.id)
    return found.status == "ACTIVE"


def _floating_ip(cloud: Connection, server_id: str) -> str:
    """Return the first server's floating IP; a new server gets the same one again."""
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
