# SPDX-License-Identifier: Apache-2.0
"""Rescue: a second container takes the place of a broken server.

The rescue container has the server's name, labels and namespace, so that every verb
acts on it as on any server. The server's own container is renamed, and its root file
system is mounted in the rescue container at :data:`MOUNT_POINT`. The mount is an
anonymous volume: the engine mounts it while the rescue container runs, and removes it
together with that container.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import vm_states
from nova.virt import hardware
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.errors import translated
from nova_docker.storage import overlay
from nova_docker.storage.mounts import Mount
from nova_docker.storage.mounts import existing_volume
from nova_docker.storage.mounts import overlay_volume

LOG = logging.getLogger(__name__)

MOUNT_POINT = "/mnt/rescue"

#: Of the volumes with servers' files. An image cannot set the labels of a volume.
LABEL = naming.LABEL_PREFIX + "rescue"

# In ERROR, it may be in rescue.
_NOT_IN_RESCUE = (
    vm_states.ACTIVE,
    vm_states.STOPPED,
    vm_states.PAUSED,
    vm_states.SUSPENDED,
)


def check(instance: objects.Instance, image_meta: objects.ImageMeta) -> None:
    """Refuse an image that requests a rescue device.

    :raises InstanceNotRescuable: if it does, as in Nova's libvirt driver for LXC
    """
    if hardware.check_hw_rescue_props(image_meta):
        raise exception.InstanceNotRescuable(
            instance_id=instance.uuid,
            reason="a container has no devices for stable device rescue; choose a "
            "rescue image without the properties hw_rescue_device and hw_rescue_bus",
        )


def level_of(client: DockerClient, instance: objects.Instance) -> str:
    """Return the isolation of a server, in whose namespaces the rescue container is.

    :raises InstanceNotFound: if the engine does not have the server
    """
    with translated(instance.uuid):
        try:
            # An earlier attempt was interrupted.
            found = client.inspect_container(naming.aside_name_of(instance.uuid))
        except errors.ContainerNotFound:
            found = client.inspect_container(naming.name_of(instance.uuid))
    return isolation.of_container(found["Config"]["Labels"])


@contextlib.contextmanager
def set_aside(
    client: DockerClient, instance: objects.Instance
) -> Iterator[dict[str, Any]]:
    """Stop and rename a server's own container, to make way for a rescue container.

    If that or the block fails, the rescue container is removed and the name restored.

    :yields: the server's own container: the response of GET /containers/{id}/json
    :raises InstanceNotFound: if the engine does not have it
    """
    name = naming.name_of(instance.uuid)
    aside = naming.aside_name_of(instance.uuid)
    try:
        with translated(instance.uuid):
            if _exists(client, aside):
                # An earlier attempt was interrupted.
                _remove(client, name)
            else:
                # Two containers must not write to one overlay at the same time.
                client.stop_container(name, 0)
                client.rename_container(name, aside)
            found = client.inspect_container(aside)
        yield found
    except Exception:
        with excutils.save_and_reraise_exception():
            try:
                bring_back(client, instance)
            except exception.NovaException:
                LOG.exception(
                    "Failed to clean up after a failed rescue", instance=instance
                )


def bring_back(client: DockerClient, instance: objects.Instance) -> None:
    """Remove a server's rescue container, and restore the name of its own container.

    A server that is not in rescue stays as it is.

    :raises NovaException: if the engine fails; calling it again continues
    """
    name = naming.name_of(instance.uuid)
    aside = naming.aside_name_of(instance.uuid)
    with translated(instance.uuid):
        if _exists(client, aside):
            _remove(client, name)
            client.rename_container(aside, name)


def roll_back(client: DockerClient, instance: objects.Instance) -> None:
    """Bring a server back whose rescue or unrescue has failed half-way.

    Nova then shows it in ERROR and offers a hard reboot. A server that Nova shows in
    rescue stays there.

    :raises NovaException: if the engine fails
    """
    if instance.vm_state != vm_states.RESCUED:
        bring_back(client, instance)


def mend(client: DockerClient) -> None:
    """Roll back each rescue that a killed nova-compute has not finished.

    The rescue container may be running already, but if Nova has not recorded the
    rescue, users would take it for the server. A server for which that fails is
    skipped, with a warning.

    :raises NovaException: if the engine or Nova's database fails
    """
    with translated():
        listed = client.list_containers(filters=naming.SERVERS)
        names = {
            name.lstrip("/")
            for found in listed
            # The engine is still doing what the killed nova-compute has called.
            if found["State"] not in ("removing", "dead")
            for name in found["Names"]
        }
        for uuid in naming.by_uuid(listed):
            name, aside = naming.name_of(uuid), naming.aside_name_of(uuid)
            if aside in names and (name not in names or not _is_recorded(uuid)):
                LOG.warning("Rolling back the interrupted rescue of %s", name)
                try:
                    _remove(client, name)
                    client.rename_container(aside, name)
                except errors.DockerError as error:
                    # One server must not keep nova-compute from starting.
                    LOG.warning("Failed to rename %s to %s: %s", aside, name, error)


def sweep(client: DockerClient) -> None:
    """Remove the volumes that the engine has left of rescue containers.

    If Docker before 24 restarts while a server is in rescue, it takes the volume to be
    mounted until its next restart, and refuses to remove it. The volume is empty then.

    Never raises for an engine that fails: the next call tries again.
    """
    unused = {"dangling": ["true"], "label": [LABEL]}
    try:
        for volume in client.list_volumes(unused):
            with contextlib.suppress(errors.VolumeNotFound, errors.Conflict):
                client.remove_volume(volume["Name"])
    except errors.DockerError as error:
        LOG.warning("Failed to remove volumes of rescue containers: %s", error)


def mounts(instance: objects.Instance, broken: Mapping[str, Any]) -> list[Mount]:
    """Return the mounts of a rescue container: the broken server's files and volumes.

    :param broken: as :func:`set_aside` yields it
    :raises InstanceNotRescuable: if the root file system cannot be mounted
    """
    try:
        options = overlay.mount_options(broken.get("GraphDriver") or {})
    except overlay.NotMountable as error:
        raise exception.InstanceNotRescuable(
            instance_id=instance.uuid, reason=str(error)
        ) from error
    return [
        overlay_volume(
            options, MOUNT_POINT, {naming.UUID_LABEL: instance.uuid, LABEL: ""}
        ),
        *(
            existing_volume(mount["Name"], MOUNT_POINT + mount["Destination"])
            for mount in broken.get("Mounts", ())
            if mount["Type"] == "volume"
        ),
    ]


def _is_recorded(uuid: str) -> bool:
    """Return whether a server may be in rescue, as far as Nova knows."""
    try:
        instance = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), uuid, expected_attrs=[]
        )
    except exception.InstanceNotFound:
        return True
    return instance.vm_state not in _NOT_IN_RESCUE


def _exists(client: DockerClient, name: str) -> bool:
    try:
        client.inspect_container(name)
    except errors.ContainerNotFound:
        return False
    return True


def _remove(client: DockerClient, name: str) -> None:
    with contextlib.suppress(errors.ContainerNotFound):
        client.remove_container(name, force=True, volumes=True)
