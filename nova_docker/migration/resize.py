# SPDX-License-Identifier: Apache-2.0
"""Which resizes are possible.

A resize on the same host changes the limits of the running container. Nothing is moved
or copied: reverting restores the old limits, and confirming has nothing to do. To
another host, the server moves: see :mod:`.cold`.
"""

from __future__ import annotations

from nova import conf as nova_conf
from nova import exception
from nova import objects

from nova_docker import unsupported
from nova_docker.container import isolation
from nova_docker.container import pinning
from nova_docker.container import quota
from nova_docker.container import settings
from nova_docker.container import volume_mode

CONF = nova_conf.CONF


def refuse(
    instance: objects.Instance,
    flavor: objects.Flavor,
    *,
    moves: bool,
    disk_quota: bool,
    disk_device: str | None,
    level: str,
    mode: str = volume_mode.DEVICE,
    ephemeral_gb: int = 0,
) -> None:
    """Refuse a resize that the driver cannot do.

    :param flavor: the new flavor
    :param moves: whether the server gets a new container, on another host
    :param disk_quota: whether the engine limits the root disk
    :param disk_device: the block device below the engine's data, None if there is none
    :param level: the server's, of :mod:`nova_docker.container.isolation`
    :param mode: the server's, of :mod:`nova_docker.container.volume_mode`
    :param ephemeral_gb: size of its ephemeral disks, in GiB
    :raises ResizeError: if a disk or the isolation would have to change
    :raises InvalidInput: if :func:`unsupported.refuse` or :func:`quota.refuse` does, or
        the new flavor requests an unknown isolation
    """
    unsupported.refuse(flavor, instance.image_meta)
    pinning.refuse(flavor, instance.image_meta, pinning.topology_of(instance, flavor))
    isolation.refuse_change(instance.flavor, flavor, CONF.docker.isolation, level)
    quota.refuse(flavor, level, disk_device)
    quota.refuse_change(instance.flavor, flavor)
    settings.refuse(flavor, level)
    settings.refuse_change(instance.flavor, flavor)
    volume_mode.refuse_change(flavor, mode)
    old, new = instance.flavor.root_gb, flavor.root_gb
    if new < old:
        raise exception.ResizeError(
            reason=f"the root disk cannot shrink from {old} to {new} GB; choose a "
            f"flavor with a root disk of at least {old} GB"
        )
    if disk_quota and new != old and not moves:
        raise exception.ResizeError(
            reason=f"the root disk cannot grow from {old} to {new} GB, because the "
            "engine sets its size when it creates the container; choose a flavor "
            f"with a root disk of {old} GB"
        )
    if not ephemeral_gb <= flavor.ephemeral_gb <= instance.flavor.ephemeral_gb:
        raise exception.ResizeError(
            reason="ephemeral disks neither grow nor shrink; choose a flavor with "
            f"{instance.flavor.ephemeral_gb} GB of them"
        )
