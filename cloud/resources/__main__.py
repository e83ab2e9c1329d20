# SPDX-License-Identifier: Apache-2.0
"""``python -m cloud.resources PART …``: create these parts, in this order."""

from __future__ import annotations

import sys

from cloud.errors import QuickstartError
from cloud.resources import compute
from cloud.resources import fake_compute
from cloud.resources import identity
from cloud.resources import image
from cloud.resources import network
from cloud.resources import orchestration
from cloud.resources import server
from cloud.resources import volume

PARTS = {
    "users": identity.create_users,
    "images": image.wait_until_listed,
    "systemd": image.wait_until_systemd_is_listed,
    "networks": network.create_networks,
    "flavors": compute.create_flavors,
    "compute": compute.wait_until_ready,
    "stacks": orchestration.create_domain,
    "heat-engine": orchestration.wait_until_ready,
    "server": server.boot_first_server,
    "volume-types": volume.create_types,
    "fake-compute": fake_compute.create,
    "no-fake-compute": fake_compute.forget,
}

if __name__ == "__main__":
    try:
        for part in sys.argv[1:]:
            PARTS[part]()
    except QuickstartError as error:
        sys.exit(str(error))
