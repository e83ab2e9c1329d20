# SPDX-License-Identifier: Apache-2.0
"""Glance images as images of the engine, each had once.

Where Glance says that an image is one of the engine's, or a registry's, it is
taken from there; other images are loaded from Glance.

The engine calls the image with Glance id ``<id>`` ``nova-glance/<id>:latest``.
Only this module gives such tags, each to what Glance has under that id, so an
image that has the tag needs no second look.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import re
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import cryptography.exceptions
from nova import conf as nova_conf
from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import units

from docker_engine import errors
from docker_engine import location
from docker_engine.archive import ArchiveError
from docker_engine.archive import ImageArchive
from docker_engine.client import DockerClient
from docker_engine.credentials import credentials
from docker_engine.reference import GLANCE_REPOSITORY
from nova_docker.image.locations import ImageLocations

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# Engines take repository names in lower case alone: were "ABC…" to share the tag
# of "abc…", one could be loaded in place of the other.
_GLANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Chunks (64 KiB each) read from Glance ahead of what the engine has taken.
_READ_AHEAD = 16

# What engines (20.10, 28, and 28 with containerd's image store) say when a layer
# cannot be unpacked for what it holds, and what when the host is at fault.
_BAD_LAYER = re.compile(
    r"Error processing tar file|failed to extract layer|max depth exceeded"
    r"|archive/tar|unhandled tar header|invalid (hardlink|symlink|whiteout)|breakout"
    r"|not a directory|is a directory|file exists|file name too long|unexpected EOF"
)
_HOST_TROUBLE = re.compile(
    r"no space left|quota exceeded|read-only file system|input/output error"
    r"|cannot allocate memory|too many open files|permission denied|signal: killed"
)
_NOT_UNPACKED = "Error unpacking image"


def name_of(image_id: str) -> str:
    """What the engine calls a Glance image."""
    return f"{GLANCE_REPOSITORY}/{image_id}:latest"


def names(client: DockerClient) -> list[str]:
    """The ids of the Glance images that the engine has."""
    return [
        tag.removeprefix(f"{GLANCE_REPOSITORY}/").removesuffix(":latest")
        for found in client.list_images({"reference": [f"{GLANCE_REPOSITORY}/*"]})
        for tag in found["RepoTags"] or ()
        if tag.startswith(f"{GLANCE_REPOSITORY}/")
    ]


def lock_of(image_id: str) -> str:
    """Name of the lock under which an image is loaded or removed."""
    return f"nova-docker-image-{image_id}"


class ImageStore:
    """The Glance images that the engine has, and a way to have more.

    :param client: the engine
    :param image_api: ``nova.image.glance.API()``
    :param locations: where Glance says that images are; None: what is not on the
        engine always comes from Glance
    """

    def __init__(
        self,
        client: DockerClient,
        image_api: Any,
        locations: ImageLocations | None = None,
    ) -> None:
        self._client = client
        self._image_api = image_api
        self._locations = locations
        # Image and certificates, of what was found to be signed.
        self._trusted: set[tuple[str, ...]] = set()

    @staticmethod
    def check(
        image_meta: objects.ImageMeta, flavor: objects.Flavor | None = None
    ) -> None:
        """Refuse, by what Glance says of it, an image that cannot boot.

        :raises ImageUnacceptable: when it is not a ``docker save`` archive
        :raises FlavorDiskSmallerThanImage: when it is larger than the flavor's
            root disk
        """
        image_id, container_format, disk_format, size = (
            getattr(image_meta, name) if image_meta.obj_attr_is_set(name) else None
            for name in ("id", "container_format", "disk_format", "size")
        )
        if (container_format, disk_format) != ("docker", "raw"):
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason="its container_format must be docker and its disk_format "
                f"raw; they are {container_format} and {disk_format}",
            )
        if not _GLANCE_ID.fullmatch(image_id or ""):
            raise exception.ImageUnacceptable(
                image_id=image_id, reason="its id is not a UUID in lower case"
            )
        _check_fits(size or 0, flavor)

    def ensure(
        self,
        context: Any,
        image_meta: objects.ImageMeta,
        flavor: objects.Flavor | None = None,
        trusted_certs: Any = None,
    ) -> str:
        """Make sure that the engine has an image, loading it if it has not.

        Engine calls: "GET /images/{name}/json", and for an image that is not
        there "POST /images/load".

        :param flavor: the expanded image must fit its root disk, if given
        :param trusted_certs: certificates, one of which must vouch for who has
            signed the image (``Instance.trusted_certs``). One that is on the
            engine is loaded anew for the first who ask for these.
        :returns: the engine's id of the image, ``sha256:…``
        :raises ImageUnacceptable: when it is not a loadable archive: why
        :raises FlavorDiskSmallerThanImage: when it does not fit
        :raises ImageNotFound: or another of Nova's exceptions for what Glance
            answers
        :raises CouldNotFetchImage: when Glance, the way from it, or the engine
            failed, so that another host may do better
        """
        self.check(image_meta, flavor)
        image_id = image_meta.id
        tag = name_of(image_id)
        with lockutils.lock(lock_of(image_id)), _host_trouble(image_id):
            found = None
            with contextlib.suppress(errors.ImageNotFound):
                found = self._client.inspect_image(tag)
            trusted = (image_id, *sorted(trusted_certs.ids)) if trusted_certs else None
            if not found and not trusted:
                found = self._take(image_id, tag)
            if not found or (trusted and trusted not in self._trusted):
                found = self._load(context, image_id, tag, trusted_certs)
            if trusted:
                self._trusted.add(trusted)
        # As large as the engine says: with containerd's image store, compressed.
        _check_fits(found["Size"], flavor)
        return found["Id"]

    def cache(self, context: Any, image_id: str) -> bool:
        """Have an image before the first server asks for it.

        :returns: whether it had to be loaded
        :raises ImageNotFound: and what else :meth:`ensure` raises
        """
        with _host_trouble(image_id), contextlib.suppress(errors.ImageNotFound):
            self._client.inspect_image(name_of(image_id))
            return False
        image_meta = objects.ImageMeta.from_image_ref(
            context, self._image_api, image_id
        )
        self.ensure(context, image_meta)
        return True

    def _take(self, image_id: str, tag: str) -> dict[str, Any] | None:
        """Have an image without Glance's bytes, where Glance says that it is.

        :returns: what the engine says of it; None: it must come from Glance
        """
        for place in self._locations.of(image_id) if self._locations else ():
            if isinstance(place, location.EngineImage):
                with contextlib.suppress(errors.ImageNotFound):
                    # The id is a digest: on whichever engine, it is the image.
                    found = self._client.inspect_image(place.image_id)
                    return self._adopt(found, image_id, tag)
            if place.reference and (
                pulled := self._pull(place.reference, image_id, tag)
            ):
                return pulled
        return None

    def _adopt(self, found: dict[str, Any], image_id: str, tag: str) -> dict[str, Any]:
        """Give an image of the engine's the name of one of Glance's."""
        host = self._client.version().get("Arch")
        if host and found["Architecture"] != host:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=f"it is for {found['Architecture']} machines, and this host "
                f"is {host}",
            )
        repository, _, version = tag.rpartition(":")
        self._client.tag_image(found["Id"], repository, version)
        LOG.info("Image %s is %s of the engine", image_id, found["Id"])
        return found

    def _pull(self, reference: str, image_id: str, tag: str) -> dict[str, Any] | None:
        """Have an image of a registry; None when it is not to be had.

        :param reference: ``registry/repository@sha256:…``
        """
        repository, _, digest = reference.partition("@")
        with lockutils.lock(f"nova-docker-{digest.replace(':', '-')}"):
            with contextlib.suppress(errors.ImageNotFound):
                found = self._client.inspect_image(reference)
                return self._adopt(found, image_id, tag)
            LOG.info("Pulling %s", reference)
            try:
                auth = credentials(
                    CONF.docker.registry_auth_file, location.registry_of(repository)
                )
                self._client.pull_image(repository, digest, auth)
            except (errors.DockerError, ValueError) as error:
                LOG.warning("Cannot pull %s, asking Glance: %s", reference, error)
                return None
            try:
                return self._adopt(self._client.inspect_image(reference), image_id, tag)
            finally:
                # Under a second name it would stay when Glance's goes.
                with contextlib.suppress(errors.ImageNotFound):
                    self._client.remove_image(reference)

    def _load(
        self, context: Any, image_id: str, tag: str, trusted_certs: Any
    ) -> dict[str, Any]:
        LOG.info("Loading image %s into the Docker engine", image_id)

        def fetch(sink: _Download) -> None:
            # Not later: an HTTP client that sends what it is given by an iterator
            # takes an OSError of the iterator for one of its own connection.
            with _host_trouble(image_id):
                try:
                    self._image_api.download(
                        context, image_id, data=sink, trusted_certs=trusted_certs
                    )
                except cryptography.exceptions.InvalidSignature as error:
                    # Nova would look for another host, and say nothing.
                    raise exception.ImageUnacceptable(
                        image_id=image_id, reason="it is not what was signed"
                    ) from error

        download = _Download(fetch)
        archive = ImageArchive(download, tag, self._client.version().get("Arch"))
        try:
            with contextlib.closing(download):
                messages = self._client.load_image(archive)
            # With containerd's image store that is no error, only a message.
            for message in messages:
                if message.get("stream", "").startswith(_NOT_UNPACKED):
                    self._client.remove_image(tag)
                    raise errors.EngineError(message["stream"].strip())
        except ArchiveError as error:
            raise exception.ImageUnacceptable(
                image_id=image_id, reason=str(error)
            ) from error
        except errors.DockerError as error:
            if _BAD_LAYER.search(str(error)) and not _HOST_TROUBLE.search(str(error)):
                raise exception.ImageUnacceptable(
                    image_id=image_id, reason=f"the Docker engine says: {error}"
                ) from error
            raise
        found = self._client.inspect_image(tag)
        # Not the id: engines with containerd's image store have one of another
        # kind, the digest of a manifest that they made.
        if found["RootFS"]["Layers"] != archive.diff_ids:
            self._client.remove_image(tag)
            raise exception.CouldNotFetchImage(
                f"The Docker engine loaded another image than {image_id}"
            )
        return found


class _Download:
    """An image's bytes as they come from Glance: iterate over it once.

    Nova checks an image's hash as it flows, and its signature only where it
    writes the image: asked for an iterator, it returns one that it has read to
    the end. So it is given a file to write to, this one, in a thread.

    :param fetch: writes the image to the file that it is given; what it raises,
        iterating raises
    """

    def __init__(self, fetch: Callable[[_Download], None]) -> None:
        self._fetch = fetch
        self._chunks: queue.Queue[bytes | BaseException | None]
        self._chunks = queue.Queue(_READ_AHEAD)
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        threading.Thread(target=self._run, name="docker-image", daemon=True).start()
        while (chunk := self._chunks.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def close(self) -> None:
        """End the download if it has not ended. Does not wait for Glance."""
        self._closed = True
        # A writer that waits for room has it now, and then sees that it is over.
        with contextlib.suppress(queue.Empty):
            while True:
                self._chunks.get_nowait()

    def _run(self) -> None:
        end = None
        try:
            self._fetch(self)
        except BaseException as error:
            end = error
        self._chunks.put(end)

    # What Nova asks of the file

    def write(self, chunk: bytes) -> None:
        self._chunks.put(chunk)
        if self._closed:
            raise OSError(errno.EPIPE, "The image is not wanted any more")

    def truncate(self, size: int) -> None:
        """Called for an image whose signature is wrong; its error follows."""


def _check_fits(size: int, flavor: objects.Flavor | None) -> None:
    root = flavor.root_gb * units.Gi if flavor else 0
    if root and size > root:
        raise exception.FlavorDiskSmallerThanImage(flavor_size=root, image_size=size)


@contextlib.contextmanager
def _host_trouble(image_id: str) -> Iterator[None]:
    """Turn failures of Glance's transport and of the engine into Nova's."""
    try:
        yield
    except OSError as error:
        # The hash was wrong, or the connection broke.
        raise exception.CouldNotFetchImage(
            f"Could not fetch image {image_id} from Glance: {error}"
        ) from error
    except errors.DockerError as error:
        raise exception.CouldNotFetchImage(
            f"The Docker engine could not load image {image_id}: {error}"
        ) from error
