# SPDX-License-Identifier: Apache-2.0
"""An engine's image as the archive that Glance serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from docker_engine.archive import ImageArchive
from docker_engine.client import DockerClient

_CHUNK = 256 * 1024


def export(client: DockerClient, image_id: str, name: str) -> Iterator[bytes]:
    """Yield an image's archive for ``docker load`` while the engine writes it.

    The engine's archive is checked and rewritten (see :mod:`docker_engine.archive`):
    the result has only the given name, and an export that breaks off raises an error
    in place of giving a short archive.

    Engine call: "GET /images/{name}/get"

    :param image_id: not the name, which may have moved to another image
    :param name: ``repository:tag``, the image's name in the archive
    :raises NotFound: at the first chunk, when the engine has no such image
    :raises DockerError: when the engine fails
    :raises ArchiveError: when the archive is truncated, or the image cannot be run
    """
    with _exported(client, image_id, name) as archive:
        yield from archive


class Measurement:
    """The size of an image's archive, found by reading it once.

    :raises NotFound: and the other errors of :func:`export`
    """

    def __init__(self, client: DockerClient, image_id: str) -> None:
        with _exported(client, image_id, "") as self._archive:
            self._size = sum(map(len, self._archive))

    def size(self, name: str) -> int:
        """Return the bytes of the archive in which the image has this name."""
        return self._size + self._archive.growth(name)


@contextlib.contextmanager
def _exported(client: DockerClient, image_id: str, name: str) -> Iterator[ImageArchive]:
    with contextlib.closing(client.save_image(image_id)) as stream:
        yield ImageArchive(iter(lambda: stream.read(_CHUNK), b""), name)
