# SPDX-License-Identifier: Apache-2.0
"""The life of a server with openstacksdk."""

from __future__ import annotations

import openstack


def connect() -> openstack.connection.Connection:
    """Connect as demo, whose credentials are in clouds.yaml."""
    return openstack.connect(cloud="demo")


def create(cloud, name: str, image: str):
    """Create a server with a floating IP, and wait until it is ACTIVE."""
    server = cloud.create_server(
        name,
        image=image,
        flavor="docker.small",
        network="private",
        key_name="quickstart",
        auto_ip=True,
        reuse_ips=False,
        wait=True,
    )
    # Again, because this sets public_v4, the floating IP.
    return cloud.get_server(server.id)


def console_log(cloud, server) -> str:
    """Return what the server's first process has printed."""
    return cloud.get_server_console(server)


def console_url(cloud, server) -> str:
    """Return the URL of the server's terminal, for a websocket client."""
    return cloud.compute.create_console(server, "serial")["url"]


def attach(cloud, server, network: str) -> None:
    """Attach the server to another network while it runs."""
    found = cloud.network.find_network(network, ignore_missing=False)
    cloud.compute.create_server_interface(server, net_id=found.id)


def snapshot(cloud, server, name: str):
    """Create an image from the server's file system."""
    return cloud.create_image_snapshot(name, server, wait=True)


def delete(cloud, server) -> None:
    """Delete the server and its floating IP, and wait until it is gone."""
    cloud.delete_server(server.id, wait=True, delete_ips=True)
