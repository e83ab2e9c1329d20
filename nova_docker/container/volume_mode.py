# SPDX-License-Identifier: Apache-2.0
"""What a server's volumes are in it: block devices, or mounted file systems.

The flavor decides; if it says nothing, the image does, and then the configuration of
the host. It is fixed when the server's container is created, whose label tells it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import exception

from nova_docker.container.naming import LABEL_PREFIX

#: A volume is a block device in the server's /dev.
DEVICE = "device"
#: The host mounts the file system of a volume into the server.
FILE_SYSTEM = "filesystem"
MODES = (DEVICE, FILE_SYSTEM)

LABEL = LABEL_PREFIX + "volume_mode"
#: Hosts with it mount the file systems of volumes.
TRAIT = "CUSTOM_DOCKER_MOUNT_VOLUMES"
#: The image property
PROPERTY = "docker_volume_mode"

_SPEC = "docker:volume_mode"


def of_server(flavor: Any, of_image: str | None, default: str) -> str:
    """Return the mode that a new server gets.

    :param of_image: the image's property, None if it has none
    :param default: that of servers whose flavor and image request none
    :raises InvalidInput: if there is no such mode
    """
    requests = (
        (f"flavor's {_SPEC}", flavor.extra_specs.get(_SPEC)),
        (f"image's {PROPERTY}", of_image),
    )
    for what, mode in requests:
        if mode:
            if mode not in MODES:
                raise exception.InvalidInput(
                    reason=f"the {what}={mode} is none of {', '.join(MODES)}; use "
                    "another flavor or image"
                )
            return str(mode)
    return default


def of_container(labels: Mapping[str, str] | None) -> str:
    """Return the mode of an existing container.

    One that an earlier release has created has no label.
    """
    mode = (labels or {}).get(LABEL, DEVICE)
    return mode if mode in MODES else DEVICE


def refuse(mode: str, *, mounts: bool) -> None:
    """Refuse a mode that this host does not have.

    :param mounts: whether the operator lets the host mount volumes
    :raises InvalidInput: if so
    """
    if mode == FILE_SYSTEM and not mounts:
        raise exception.InvalidInput(
            reason=f"this host does not mount volumes ({_SPEC}={FILE_SYSTEM}), because "
            "its operator has not enabled [docker]mount_volumes; use a flavor or image "
            "with another mode, or hosts with the trait " + TRAIT
        )


def traits(*, mounts: bool) -> dict[str, bool]:
    """Return the trait of hosts that mount volumes, with whether this one does.

    :param mounts: as for :func:`refuse`
    """
    return {TRAIT: mounts}


def refuse_change(flavor: Any, current: str) -> None:
    """Refuse a resize that would need another container.

    :param flavor: the new one
    :param current: the mode that the server has
    :raises ResizeError: if the flavor requests another mode
    """
    if flavor.extra_specs.get(_SPEC, current) != current:
        raise exception.ResizeError(
            reason=f"the server has its volumes as {_SPEC}={current}, which cannot "
            "change while it exists, and the new flavor requests another mode; choose "
            "a flavor with the same mode, or create another server"
        )
