# SPDX-License-Identifier: Apache-2.0
"""Which resizes can be done, and how Nova hears of those that cannot.

A server gets its new limits while it runs on. So nothing is moved, copied or
kept beside: reverting sets the old limits, and confirming has nothing to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova import conf as nova_conf
from nova import exception
from nova import objects

from nova_docker import unsupported

CONF = nova_conf.CONF


def refuse(
    instance: objects.Instance,
    flavor: objects.Flavor,
    dest: str,
    *,
    disk_quota: bool,
) -> None:
    """Refuse what the driver cannot do.

    :param flavor: the new one
    :param dest: address of the host to be on, as ComputeDriver.get_host_ip_addr
    :param disk_quota: whether the storage driver limits the size of a container
    :raises MigrationPreCheckError: for another host
    :raises ResizeError: for disks that would have to change
    :raises InvalidInput: as :func:`unsupported.refuse` does
    """
    if dest != CONF.my_ip:
        raise exception.MigrationPreCheckError(
            reason="the Docker driver does not move servers between hosts"
        )
    unsupported.refuse(flavor, instance.image_meta)
    old, new = instance.flavor.root_gb, flavor.root_gb
    if new < old:
        raise exception.ResizeError(
            reason=f"the root disk cannot shrink from {old} to {new} GB"
        )
    if disk_quota and new != old:
        raise exception.ResizeError(
            reason=f"the root disk cannot grow from {old} to {new} GB: the engine "
            "sets its size when it creates the container"
        )
    if flavor.ephemeral_gb > instance.flavor.ephemeral_gb:
        raise exception.ResizeError(
            reason="the Docker driver does not support ephemeral disks"
        )


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """Let Nova leave the server as it was, and keep the reason with the action.

    What else a driver raises, Nova takes for a server that is broken.
    """
    try:
        yield
    except Exception as error:
        raise exception.InstanceFaultRollback(inner_exception=error) from error
