# SPDX-License-Identifier: Apache-2.0
"""How long a server takes to become ACTIVE, through the API of a real cloud."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from cloud import images
from tests.cloud import cloud

INTERVAL = 0.02  # seconds between two looks


def times(rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of boots with this driver, and with Nova's fake driver, in turns."""
    cloud.up()
    subprocess.run([cloud.QUICKSTART, "fake-compute"], check=True)
    connection = cloud.connect()
    fixed = {
        "name": "bench",
        "image_id": connection.image.find_image(images.BUSYBOX).id,
        # Neutron binds no port on a host that has no switch, as the fake one.
        "networks": "none",
    }
    # ./quickstart gives its fake nova-compute a zone and a flavor of its own.
    docker = {"flavor_id": connection.compute.find_flavor("docker.tiny").id}
    nova_fake = {
        "flavor_id": connection.compute.find_flavor("fake.tiny").id,
        "availability_zone": "fake",
    }
    ours: list[float] = []
    fakes: list[float] = []
    for counted in [False] + [True] * rounds:
        for found, where in ((ours, docker), (fakes, nova_fake)):
            took = _boot(connection, **fixed, **where)
            if counted:
                found.append(took)
    return ours, fakes


def _boot(connection: Any, **values: Any) -> float:
    server = connection.compute.create_server(**values)
    begun = time.monotonic()
    while (state := connection.compute.get_server(server.id).status) != "ACTIVE":
        if state == "ERROR":
            raise RuntimeError(f"server {server.id} is in ERROR")
        time.sleep(INTERVAL)
    took = time.monotonic() - begun
    connection.compute.delete_server(server.id)
    connection.compute.wait_for_delete(server, interval=0.2, wait=60)
    return took
