# SPDX-License-Identifier: Apache-2.0
"""The volumes that an image declares: directories of the server's root file system.

For each volume of an image, the engine would create an anonymous volume, whose size
nothing limits. It does not do so where the container has a mount. So each path gets a
mount, which the OCI runtime leaves out. The path is then part of the root file system:
it counts against the root disk, and is in snapshots and in rescue.

Servers that an earlier version created keep their anonymous volumes.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence

from nova import exception
from nova import objects

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import injection
from nova_docker.container import naming
from nova_docker.errors import translated
from nova_docker.storage.mounts import Mount
from nova_docker.storage.mounts import is_below
from nova_docker.storage.mounts import left_out


def placeholders(paths: Iterable[str], mounts: Sequence[Mount]) -> list[Mount]:
    """Return the mounts that keep the engine from creating volumes.

    :param paths: as :func:`nova_docker.image.configuration.volumes` returns them
    :param mounts: the container's other mounts, which keep it from that as well
    """
    targets = {mount["Target"] for mount in mounts}
    return [left_out(path) for path in paths if path not in targets]


def create_directories(
    client: DockerClient,
    instance: objects.Instance,
    paths: Iterable[str],
    mounts: Sequence[Mount],
) -> None:
    """Create the directories that the image does not have, before the first process.

    Existing ones stay as they are: the engine would change their mode and owner.

    Engine calls: HEAD and PUT /containers/{id}/archive

    :param paths: as :func:`nova_docker.image.configuration.volumes` returns them
    :param mounts: the container's other mounts; nothing is created in them
    :raises ImageUnacceptable: if the image has no place for one of them
    :raises NovaException: if the engine fails
    """
    name = naming.name_of(instance.uuid)
    others = [mount["Target"] for mount in mounts]
    with translated(instance.uuid):
        try:
            missing = [
                path
                for path in paths
                if not any(is_below(path, other) for other in others)
                and not client.has_path(name, path)
            ]
            if missing:
                client.put_archive(name, "/", injection.directories(missing))
        except (errors.BadRequest, errors.EngineError) as error:
            raise exception.ImageUnacceptable(
                image_id=instance.image_ref,
                reason=f"cannot create the directories of its volumes: {error}",
            ) from error
