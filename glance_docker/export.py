# SPDX-License-Identifier: Apache-2.0
"""An engine's image as the archive that Glance serves."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from docker_engine.archive import ImageArchive
from docker_engine.client import DockerClient
from docker_engine.streams.bytes import ByteStream
from glance_docker.slots import Slot

_CHUNK = 256 * 1024


class TooSlow(Exception):
    """The reader of an export was slower than allowed."""


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
    with contextlib.closing(client.save_image(image_id)) as stream:
        yield from _archive(stream, name)


def export_in_time(
    client: DockerClient, image_id: str, name: str, slot: Slot, limit: float
) -> Iterator[bytes]:
    """Yield what :func:`export` yields, to a reader who may be hostile.

    :param limit: seconds from the first chunk to the last. A reader who takes longer
        keeps neither the engine's connection nor the slot, even if it never asks for
        the next chunk.
    :raises TooSlow: after ``limit``, and the errors of :func:`export`
    """
    with contextlib.closing(client.save_image(image_id)) as stream:
        archive = iter(_archive(stream, name))
        # The engine has done its work when the first chunk arrives.
        first = next(archive)
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            stream.close()
            slot.release()

        timer = threading.Timer(limit, expire)
        timer.daemon = True
        timer.start()
        try:
            yield first
            yield from archive
        except Exception as error:
            if expired.is_set():
                raise TooSlow(
                    f"the reader took more than {limit:.0f} s and was cut off"
                ) from error
            raise
        finally:
            timer.cancel()


class Measurement:
    """The size of an image's archive, found by reading it once.

    :raises NotFound: and the other errors of :func:`export`
    """

    def __init__(self, client: DockerClient, image_id: str) -> None:
        with contextlib.closing(client.save_image(image_id)) as stream:
            self._archive = _archive(stream, "")
            self._size = sum(map(len, self._archive))

    def size(self, name: str) -> int:
        """Return the bytes of the archive in which the image has this name."""
        return self._size + self._archive.growth(name)


def _archive(stream: ByteStream, name: str) -> ImageArchive:
    return ImageArchive(iter(lambda: stream.read(_CHUNK), b""), name)
