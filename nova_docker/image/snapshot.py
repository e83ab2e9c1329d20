# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the engine commits a server's container, and the image goes to Glance.

During the upload the engine has the image as ``nova-snapshot/<Glance ID>``. It is
removed after the upload, or when nova-compute starts again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova import exception
from nova import objects
from nova.compute import task_states
from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.reference import SNAPSHOT_REPOSITORY
from nova_docker.container import naming
from nova_docker.container import spec
from nova_docker.errors import translated

LOG = logging.getLogger(__name__)


class Snapshots:
    """Takes snapshots of servers.

    :param client: the engine
    :param image_api: ``nova.image.glance.API()``
    """

    def __init__(self, client: DockerClient, image_api: Any) -> None:
        self._client = client
        self._image_api = image_api

    def take(
        self,
        context: Any,
        instance: objects.Instance,
        image_id: str,
        update_task_state: Callable[..., None],
    ) -> None:
        """Upload a server's root disk to Glance, as image ``image_id``.

        Engine calls: POST /commit, during which the server is frozen; GET
        /images/{name}/get, which is streamed into the upload; DELETE /images/{name}.

        :param update_task_state: as ComputeDriver.snapshot receives it
        :raises InstanceNotRunning: if the server's container does not exist, which
            tells Nova that the server has been deleted
        :raises NovaException: if the engine fails
        :raises ImageNotFound: or another of Nova's exceptions, if Glance fails
        """
        name = naming.name_of(instance.uuid)
        LOG.info("Beginning live snapshot process", instance=instance)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        with translated(instance.uuid), self._committed(name, image_id) as tag:
            update_task_state(
                task_state=task_states.IMAGE_UPLOADING,
                expected_state=task_states.IMAGE_PENDING_UPLOAD,
            )
            LOG.info("Snapshot extracted, beginning image upload", instance=instance)
            with contextlib.closing(self._client.save_image(tag)) as archive:
                self._image_api.update(
                    context, image_id, _metadata(instance), archive, purge_props=False
                )
        LOG.info("Snapshot image upload complete", instance=instance)

    def sweep(self) -> None:
        """Remove images that remain because nova-compute was killed during an upload.

        Engine calls: GET /images/json, DELETE /images/{name}

        :raises NovaException: if the engine fails
        """
        with translated():
            for found in self._client.list_images(
                {"reference": [f"{SNAPSHOT_REPOSITORY}/*"]}
            ):
                for tag in found["RepoTags"] or ():
                    if tag.startswith(f"{SNAPSHOT_REPOSITORY}/"):
                        LOG.warning("Removing %s: its upload was interrupted", tag)
                        self._client.remove_image(tag)

    @contextlib.contextmanager
    def _committed(self, name: str, image_id: str) -> Iterator[str]:
        """Commit a container to an image that exists for the duration of the block."""
        try:
            config = self._client.inspect_container(name)["Config"]
        except errors.ContainerNotFound as error:
            raise exception.InstanceNotRunning(instance_id=name) from error
        repository = f"{SNAPSHOT_REPOSITORY}/{image_id}"
        try:
            self._client.commit_container(
                name, repository, "latest", snapshot_config(config)
            )
            yield f"{repository}:latest"
        finally:
            with contextlib.suppress(errors.ImageNotFound):
                self._client.remove_image(f"{repository}:latest")


def snapshot_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that keep a snapshot from inheriting the server's identity.

    :param config: ``Config`` of GET /containers/{id}/json
    :returns: body of POST /commit, which can empty values but not remove them
    """
    return {
        "Env": [
            f"{name}="
            for name in spec.OWN_ENVIRONMENT
            if any(item.startswith(f"{name}=") for item in config["Env"])
        ],
        "Labels": {
            name: ""
            for name in config["Labels"]
            if name.startswith(naming.LABEL_PREFIX)
        },
    }


def _metadata(instance: objects.Instance) -> dict[str, Any]:
    """Return a snapshot's metadata in Glance, as the libvirt driver sets it."""
    properties = {
        "image_location": "snapshot",
        "image_state": "available",
        "owner_id": instance.project_id,
    }
    if instance.os_type:
        properties["os_type"] = instance.os_type
    return {
        "container_format": "docker",
        "disk_format": "raw",
        "status": "active",
        "properties": properties,
    }
