# SPDX-License-Identifier: Apache-2.0
"""An engine's image as the archive that Glance gives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from docker_engine.archive import ImageArchive
from docker_engine.client import DockerClient

_CHUNK = 256 * 1024


def export(client: DockerClient, image_id: str, name: str) -> Iterator[bytes]:
    """Give an image's archive, which ``docker load`` takes, as it comes.

    What the engine writes is checked and written anew (see
    :mod:`docker_engine.archive`): it has the one name that is asked for, and an
    export that breaks off is an error rather than a short archive.

    Engine call: "GET /images/{name}/get"

    :param image_id: rather than its name, which may be another image's by now
    :param name: ``repository:tag``, its name in the archive
    :raises NotFound: at the first chunk, when the engine has no such image
    :raises DockerError: when the engine fails
    :raises ArchiveError: when it is cut short, or is no image to run
    """
    with contextlib.closing(client.save_image(image_id)) as stream:
        yield from ImageArchive(iter(lambda: stream.read(_CHUNK), b""), name)


class Measure:
    """How long an image's archive is: no engine knows it without writing one.

    :raises NotFound: and what else :func:`export` raises
    """

    def __init__(self, client: DockerClient, image_id: str) -> None:
        with contextlib.closing(client.save_image(image_id)) as stream:
            self._archive = ImageArchive(iter(lambda: stream.read(_CHUNK), b""), "")
            self._size = sum(map(len, self._archive))

    def size(self, name: str) -> int:
        """Return the bytes of the archive that has this name."""
        return self._size + self._archive.growth(name)
