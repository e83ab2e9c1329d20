# SPDX-License-Identifier: Apache-2.0
"""Snapshots: the engine commits a server's container, and the image goes to Glance.

The engine writes out the holes of sparse files, and it copies all layers of an image
before it sends the first byte. A server whose files only seem to be small could fill
the host's disk. Therefore the server is frozen, its files are measured, and the commit
begins only if they fit its flavor and the host's disk.

During the upload the engine has the image as ``nova-snapshot/<Glance ID>``. It is
removed after the upload. If that fails, or if the engine completes a commit after the
driver has given up, it is removed before the next snapshot, by Nova's periodic task for
the image cache, or when nova-compute starts again.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from nova import exception
from nova import objects
from nova.compute import task_states
from oslo_log import log as logging
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.reference import SNAPSHOT_REPOSITORY
from nova_docker.container import naming
from nova_docker.container import spec
from nova_docker.errors import translated
from nova_docker.power import Power
from nova_docker.storage.space import DiskSpace
from nova_docker.storage.space import NoSpace
from nova_docker.storage.space import Reservation

LOG = logging.getLogger(__name__)

# Removing an image waits while some container does not answer. The engine completes it.
_REMOVE_SECONDS = 10

# Bytes of an archive per file, beside its content: headers, and a long path.
PER_FILE = 3 * units.Ki


class Readable(Protocol):
    def read(self, size: int = -1) -> bytes: ...


class Snapshots:
    """Takes snapshots of servers. Several threads may use it at the same time.

    :param client: the engine
    :param image_api: ``nova.image.glance.API()``
    :param power: freezes the servers
    :param space: the file system with the engine's data
    """

    def __init__(
        self, client: DockerClient, image_api: Any, power: Power, space: DiskSpace
    ) -> None:
        self._client = client
        self._image_api = image_api
        self._power = power
        self._space = space
        self._busy: set[str] = set()  # tags that are used or being removed
        self._lock = threading.Lock()

    def take(
        self,
        context: Any,
        instance: objects.Instance,
        image_id: str,
        update_task_state: Callable[..., None],
    ) -> None:
        """Upload a server's root disk to Glance, as image ``image_id``.

        Engine calls: GET /containers/{id}/json and POST /commit, during which the
        server is frozen; GET /images/{name}/get, which is streamed into the upload;
        DELETE /images/{name}.

        Whatever this raises, Nova deletes the image in Glance.

        :param update_task_state: as ComputeDriver.snapshot receives it
        :raises InstanceNotRunning: if the server's container does not exist, which
            tells Nova that the server has been deleted
        :raises ImageUnacceptable: if the server's files are larger than its flavor's
            root disk
        :raises ComputeResourcesUnavailable: if the host's disk has too little space
        :raises NovaException: if the engine fails
        :raises ImageNotFound: or another of Nova's exceptions, if Glance fails
        """
        LOG.info("Beginning live snapshot process", instance=instance)
        update_task_state(task_state=task_states.IMAGE_PENDING_UPLOAD)
        self.recover()
        with (
            _in_novas_terms(instance.uuid),
            self._space.reserve() as reservation,
            self._committed(instance, image_id, reservation) as (tag, limit),
        ):
            update_task_state(
                task_state=task_states.IMAGE_UPLOADING,
                expected_state=task_states.IMAGE_PENDING_UPLOAD,
            )
            LOG.info("Snapshot extracted, beginning image upload", instance=instance)
            with contextlib.closing(self._client.save_image(tag)) as archive:
                checked = CheckedArchive(archive, limit, self._space)
                self._image_api.update(
                    context, image_id, _metadata(instance), checked, purge_props=False
                )
        LOG.info("Snapshot image upload complete", instance=instance)

    def recover(self) -> None:
        """Thaw the servers and remove the images of snapshots that were interrupted.

        Snapshots in progress are left alone. What fails is logged, and tried again by
        the next call.

        Engine calls: GET /images/json, DELETE /images/{name}
        """
        self._power.release()
        try:
            found = self._client.list_images(
                {"reference": [f"{SNAPSHOT_REPOSITORY}/*"]}
            )
        except errors.DockerError as error:
            LOG.warning("Failed to look for interrupted snapshots: %s", error)
            return
        for tag in (tag for image in found for tag in image["RepoTags"] or ()):
            if not tag.startswith(f"{SNAPSHOT_REPOSITORY}/"):
                continue
            with self._claimed(tag) as claimed:
                if claimed:
                    LOG.warning("Removing %s: its snapshot was interrupted", tag)
                    if not self._remove(tag):
                        # The others would have to wait as well.
                        return

    @contextlib.contextmanager
    def _claimed(self, tag: str) -> Iterator[bool]:
        """Keep others from removing an image for the duration of the block.

        :yields: False if a snapshot uses the image, or another thread is removing it
        """
        with self._lock:
            free = tag not in self._busy
            self._busy.add(tag)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._busy.discard(tag)

    @contextlib.contextmanager
    def _committed(
        self, instance: objects.Instance, image_id: str, reservation: Reservation
    ) -> Iterator[tuple[str, int]]:
        """Commit a container to an image that exists for the duration of the block.

        :param reservation: empty; space is promised to it as the snapshot needs it
        :yields: the image's tag, and the largest size in bytes that its archive may
            have
        """
        repository = f"{SNAPSHOT_REPOSITORY}/{image_id}"
        tag = f"{repository}:latest"
        # No other snapshot has this ID.
        with self._claimed(tag):
            try:
                with self._power.held(instance):
                    total = self._commit(instance, image_id, repository, reservation)
                yield tag, total
            finally:
                self._remove(tag)

    def _commit(
        self,
        instance: objects.Instance,
        image_id: str,
        repository: str,
        reservation: Reservation,
    ) -> int:
        """Measure and commit a server that is frozen.

        :returns: the largest size in bytes that the image's archive may have
        """
        name = naming.name_of(instance.uuid)
        found = self._client.inspect_container(name, size=True)
        own, total = found["SizeRw"], found["SizeRootFs"]
        if reason := refusal(own, instance.flavor.root_gb):
            raise exception.ImageUnacceptable(image_id=image_id, reason=reason)
        # The commit writes the server's files, and the export the whole image.
        reservation.grow(own + total)
        before = self._space.free_files()
        config = snapshot_config(found["Config"], self._image_config(found["Image"]))
        self._client.commit_container(name, repository, "latest", config, pause=False)
        # An estimate, because others create and remove files meanwhile.
        files = consumed(before, self._space.free_files())
        reservation.grow(files * PER_FILE)
        return archive_limit(total, files)

    def _image_config(self, image: str) -> dict[str, Any]:
        """Return the configuration of a server's image, if the engine still has it."""
        with contextlib.suppress(errors.ImageNotFound):
            return self._client.inspect_image(image)["Config"] or {}
        return {}

    def _remove(self, tag: str) -> bool:
        """Remove an image; return whether the engine has answered."""
        try:
            self._client.remove_image(tag, timeout=_REMOVE_SECONDS)
        except errors.ImageNotFound:
            pass
        except errors.DockerError as error:
            LOG.warning("Failed to remove %s; this is tried again: %s", tag, error)
            return not isinstance(error, errors.Timeout | errors.Unreachable)
        return True


class CheckedArchive:
    """A file-like object that breaks an upload off when it would do harm.

    :param archive: the engine's archive of an image
    :param limit: the largest size in bytes that it may have
    :param space: the file system with the engine's copy of it
    """

    def __init__(self, archive: Readable, limit: int, space: DiskSpace) -> None:
        self._archive = archive
        self._left = limit
        self._space = space

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, fewer at the end; everything with -1.

        :raises NoSpace: if the host's disk fills meanwhile; the engine then removes
            its copy
        :raises EngineError: if the archive is larger than the limit
        """
        if self._space.is_short():
            raise NoSpace("the engine's disk has filled meanwhile")
        data = self._archive.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise errors.EngineError("the image's archive is larger than its files")
        return data


def refusal(own: int, root_gb: int) -> str | None:
    """Return why a server's files are too large for a snapshot, or None.

    :param own: bytes of its own files, without those of its image; holes count
    :param root_gb: size of its flavor's root disk; 0 for no limit
    """
    if not root_gb or own <= root_gb * units.Gi:
        return None
    return (
        f"the server's files have {own // units.Mi} MiB, which includes the holes of "
        f"sparse files, and its flavor's root disk has {root_gb} GiB; remove files or "
        "resize the server"
    )


def consumed(before: float, after: float) -> int:
    """Return how many inodes were used up, given how many were free; at least 0."""
    return 0 if math.isinf(before) else max(0, int(before - after))


def archive_limit(total: int, files: int) -> int:
    """Return the largest size in bytes that an image's archive may have.

    :param total: bytes of its files
    :param files: how many there are of which ``total`` does not tell
    """
    # The image may have many small files, whose headers are larger than they are.
    return 2 * total + files * PER_FILE + units.Gi


@contextlib.contextmanager
def _in_novas_terms(uuid: str) -> Iterator[None]:
    """Translate the failures of a snapshot of a server."""
    try:
        with translated(uuid):
            yield
    except exception.InstanceNotFound as error:
        raise exception.InstanceNotRunning(instance_id=uuid) from error
    except NoSpace as error:
        raise exception.ComputeResourcesUnavailable(
            reason=f"cannot take a snapshot: {error}"
        ) from error


def snapshot_config(
    config: Mapping[str, Any], image: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that keep a snapshot from inheriting what is the server's.

    The health check of the server's image, which the driver switches off, is kept.

    :param config: ``Config`` of GET /containers/{id}/json
    :param image: ``Config`` of GET /images/{name}/json
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
        "Healthcheck": image.get("Healthcheck"),
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
