# SPDX-License-Identifier: Apache-2.0
"""Bind the file systems of a server's volumes into its container.

nova-compute mounts them at <device> in a directory of the server, which only root of
the host can read.
"""

import os
import re

import devices
import shares

# Where a server finds them
TOP = "/mnt"
DEVICE = re.compile(r"[a-z]+")


def add(spec, directory):
    """Add the file systems of a server to an OCI spec.

    runc and runsc follow the image's symbolic links in the root of the container only.

    :param directory: below which they are mounted
    :raises ValueError: if one has not the name of a device
    """
    sources = sorted(shares.of(directory))
    for device, source in sources:
        if not DEVICE.fullmatch(device):
            raise ValueError(f"{source} is not a volume: unknown device {device!r}")
        spec.setdefault("mounts", []).append(
            {
                "type": "bind",
                "destination": f"{TOP}/{device}",
                "source": source,
                "options": ["bind", "rprivate", "nosuid", "nodev"],
            }
        )
    devices.limit(spec, [os.stat(source).st_dev for _, source in sources])
