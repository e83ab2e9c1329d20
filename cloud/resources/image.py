# SPDX-License-Identifier: Apache-2.0
"""Glance: the engine's images, and uploads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openstack.connection import Connection

from cloud import images
from cloud import settings
from cloud.probes import wait_until
from cloud.resources.connection import connect


def wait_until_listed(names: Sequence[str] = images.NAMES) -> None:
    """Wait until Glance lists images that the quickstart built on the engine."""
    api = connect().image

    def listed() -> bool:
        return all(
            any(image.status == "active" for image in api.images(name=name))
            for name in names
        )

    log = settings.LOG / "glance-docker-sync.log"
    wait_until(
        listed,
        f"Glance does not list the engine's images {' and '.join(names)}; see {log}",
    )


def wait_until_systemd_is_listed() -> None:
    """Wait until Glance lists the image with systemd."""
    wait_until_listed([images.SYSTEMD])


def create(cloud: Connection, name: str) -> str:
    """Create a public image without data, and return its id."""
    response = cloud.image.post(
        "/images",
        json={
            "name": name,
            "container_format": "docker",
            "disk_format": "raw",
            "visibility": "public",
        },
    )
    response.raise_for_status()
    return str(response.json()["id"])


def upload(cloud: Connection, image_id: str, data: Any) -> None:
    """Upload an image's data.

    :param data: a file, or chunks of bytes
    """
    cloud.image.put(
        f"/images/{image_id}/file",
        data=data,
        headers={"Content-Type": "application/octet-stream"},
    ).raise_for_status()
