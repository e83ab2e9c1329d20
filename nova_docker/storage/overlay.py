# SPDX-License-Identifier: Apache-2.0
"""Mount options for the root file system of a stopped container."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

# mount(2) accepts one page of options.
_MAX_OPTIONS = os.sysconf("SC_PAGESIZE") - 1
_OVERLAY_INDEX = "/sys/module/overlay/parameters/index"


class NotMountable(Exception):
    """The root file system cannot be mounted; the message says why."""


def mount_options(graph_driver: Mapping[str, Any]) -> str:
    """Return the overlay options that mount a container's root file system.

    :param graph_driver: ``GraphDriver`` of GET /containers/{id}/json
    :raises NotMountable: if the storage driver is not overlay2, or the image has too
        many layers
    """
    if graph_driver.get("Name") != "overlay2":
        raise NotMountable(
            f"the Docker engine's storage driver {graph_driver.get('Name')} does not "
            "report where the server's files are; use overlay2"
        )
    layers = graph_driver["Data"]["LowerDir"]
    options = [
        f"lowerdir={layers}",
        f"upperdir={graph_driver['Data']['UpperDir']}",
        f"workdir={graph_driver['Data']['WorkDir']}",
        "nosuid",
        "nodev",
    ]
    if os.path.exists(_OVERLAY_INDEX):
        # As the engine mounts it: the kernel rejects an upper layer used otherwise.
        options.append("index=off")
    text = ",".join(options)
    if len(text) > _MAX_OPTIONS:
        raise NotMountable(
            f"the server's image has {layers.count(':')} layers, too many to mount: "
            f"the mount options are {len(text)} bytes long, the kernel's limit is "
            f"{_MAX_OPTIONS}; build the image with fewer layers"
        )
    return text
