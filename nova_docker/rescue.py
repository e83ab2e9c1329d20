# SPDX-License-Identifier: Apache-2.0
"""A broken server set aside, and a rescue container in its place.

The rescue container has the server's name, labels and namespace, so that every
verb acts on it as on any server. The server's own container is renamed and has
its root file system mounted in the other one, at :data:`MOUNT_POINT`, by a
volume that the engine makes, mounts while the rescue container runs, and
removes with it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova import exception
from nova import objects
from nova.virt import hardware
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import naming
from nova_docker.errors import translated
from nova_docker.storage import mounts as storage
from nova_docker.storage import overlay

LOG = logging.getLogger(__name__)

MOUNT_POINT = "/mnt/rescue"


def check(instance: objects.Instance, image_meta: objects.ImageMeta) -> None:
    """Refuse an image that asks for a device of its own to rescue from.

    :raises InstanceNotRescuable: as Nova's libvirt driver does for LXC
    """
    if hardware.check_hw_rescue_props(image_meta):
        raise exception.InstanceNotRescuable(
            instance_id=instance.uuid,
            reason="a container has no devices for stable device rescue",
        )


@contextlib.contextmanager
def set_aside(
    client: DockerClient, instance: objects.Instance
) -> Iterator[dict[str, Any]]:
    """Free a server's name in the block, for its rescue naming.

    It is back, and the rescue container removed, when the block fails.

    :returns: the server's own container, as GET /containers/{id}/json has it
    :raises InstanceNotFound: when there is none
    """
    name = naming.name_of(instance.uuid)
    aside = naming.aside_name_of(instance.uuid)
    with translated(instance.uuid):
        if _exists(client, aside):
            # An attempt before this one was cut off in the middle.
            _remove(client, name)
        else:
            # A file system is not to be mounted twice.
            client.stop_container(name, 0)
            client.rename_container(name, aside)
    try:
        with translated(instance.uuid):
            found = client.inspect_container(aside)
        yield found
    except Exception:
        with excutils.save_and_reraise_exception():
            try:
                bring_back(client, instance)
            except exception.NovaException:
                LOG.exception("Ending a failed rescue", instance=instance)


def bring_back(client: DockerClient, instance: objects.Instance) -> None:
    """Put a server's own container in the place of its rescue naming.

    Nothing happens to a server that is not set aside.
    """
    name = naming.name_of(instance.uuid)
    aside = naming.aside_name_of(instance.uuid)
    with translated(instance.uuid):
        if _exists(client, aside):
            _remove(client, name)
            client.rename_container(aside, name)


def mend(client: DockerClient) -> None:
    """Give servers their names back that a killed nova-compute has set aside.

    :raises NovaException: when the engine fails
    """
    with translated():
        listed = client.list_containers(filters=naming.SERVERS)
        names = {name.lstrip("/") for found in listed for name in found["Names"]}
        for uuid in naming.by_uuid(listed):
            name, aside = naming.name_of(uuid), naming.aside_name_of(uuid)
            if aside in names and name not in names:
                LOG.warning("Ending the rescue of %s, which was interrupted", name)
                client.rename_container(aside, name)


def mounts(
    instance: objects.Instance, broken: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """HostConfig.Mounts of a rescue container: the broken server's files.

    :param broken: as :func:`set_aside` returns it
    :raises InstanceNotRescuable: when its root file system cannot be mounted
    """
    try:
        options = overlay.mount_options(broken.get("GraphDriver") or {})
    except overlay.NotMountable as error:
        raise exception.InstanceNotRescuable(
            instance_id=instance.uuid, reason=str(error)
        ) from error
    return [
        storage.overlay_volume(options, MOUNT_POINT),
        *(
            storage.existing_volume(mount["Name"], MOUNT_POINT + mount["Destination"])
            for mount in broken.get("Mounts", ())
            if mount["Type"] == "volume"
        ),
    ]


def _exists(client: DockerClient, name: str) -> bool:
    try:
        client.inspect_container(name)
    except errors.ContainerNotFound:
        return False
    return True


def _remove(client: DockerClient, name: str) -> None:
    with contextlib.suppress(errors.ContainerNotFound):
        client.remove_container(name, force=True, volumes=True)
