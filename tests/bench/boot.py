# SPDX-License-Identifier: Apache-2.0
"""The time from a create request to an ACTIVE server, on a real cloud."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from cloud import images
from tests.cloud import cloud

INTERVAL = 0.02  # seconds between checks


def times(rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of boots with this driver, and with Nova's fake driver.

    The two alternate.
    """
    cloud.up()
    subprocess.run([cloud.QUICKSTART, "fake-compute"], check=True)
    connection = cloud.connect()
    fixed = {
        "name": "bench",
        "image_id": connection.image.find_image(images.BUSYBOX).id,
        # Neutron cannot bind ports on the fake host, which has no switch.
        "networks": "none",
    }
    # The fake nova-compute has an availability zone and a flavor to itself.
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
            raise RuntimeError(f"Server {server.id} failed to boot and is in ERROR")
        time.sleep(INTERVAL)
    took = time.monotonic() - begun
    connection.compute.delete_server(server.id)
    connection.compute.wait_for_delete(server, interval=0.2, wait=60)
    return took
