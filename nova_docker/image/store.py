# SPDX-License-Identifier: Apache-2.0
"""Glance images on the engine: each is fetched once per host.

An image whose Glance location is on this engine or in a registry is taken from there.
Other images are downloaded from Glance and loaded.

The engine has the image with Glance ID ``<id>`` as ``nova-glance/<id>:latest``. Only
this module sets such tags, and each to the content of that Glance image, so an image
with this tag needs no further check.

What an image takes on the engine's disk is counted while it streams, against the root
disk of the flavor and the free space. An image that is refused leaves nothing on the
engine, unless it was there before.
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
from docker_engine.archive import ImageTooLarge
from docker_engine.client import DockerClient
from docker_engine.credentials import credentials
from docker_engine.reference import GLANCE_REPOSITORY
from nova_docker.image import configuration
from nova_docker.image import pull
from nova_docker.image.locations import ImageLocations
from nova_docker.image.refusals import Refusals
from nova_docker.storage.space import DiskSpace
from nova_docker.storage.space import NoSpace

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# Repository names on the engine are in lower case. If "ABC…" shared the tag of "abc…",
# a server could get the wrong image.
_GLANCE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Chunks of 64 KiB that are read from Glance ahead of the engine.
_READ_AHEAD = 16

# Messages of engines (20.10, 28, and 28 with containerd's image store) that mean that a
# layer cannot be unpacked because of its content, or because of trouble on the host.
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


def tag_of(image_id: str) -> str:
    """Return the engine's name for a Glance image, ``repository:tag``."""
    return f"{GLANCE_REPOSITORY}/{image_id}:latest"


def image_ids(client: DockerClient) -> list[str]:
    """Return the IDs of the Glance images that the engine has.

    Engine call: GET /images/json
    """
    return [
        tag.removeprefix(f"{GLANCE_REPOSITORY}/").removesuffix(":latest")
        for found in client.list_images({"reference": [f"{GLANCE_REPOSITORY}/*"]})
        for tag in found["RepoTags"] or ()
        if tag.startswith(f"{GLANCE_REPOSITORY}/")
    ]


def lock_name(image_id: str) -> str:
    """Return the name of the lock for loading or removing an image."""
    return f"nova-docker-image-{image_id}"


class ImageStore:
    """The engine's copies of Glance images.

    :param client: the engine
    :param image_api: ``nova.image.glance.API()``
    :param space: of the engine's disk
    :param locations: looks up the locations of images in Glance; None to download all
        images from Glance
    """

    def __init__(
        self,
        client: DockerClient,
        image_api: Any,
        space: DiskSpace,
        locations: ImageLocations | None = None,
    ) -> None:
        self._client = client
        self._image_api = image_api
        self._space = space
        self._locations = locations
        self._refusals = Refusals()
        # Image ID and certificate IDs for which the signature has been verified.
        self._trusted: set[tuple[str, ...]] = set()

    @staticmethod
    def check(
        image_meta: objects.ImageMeta, flavor: objects.Flavor | None = None
    ) -> None:
        """Refuse an image that cannot boot according to its metadata in Glance.

        :raises ImageUnacceptable: if its formats are not those of a ``docker save``
            archive
        :raises FlavorDiskSmallerThanImage: if it is larger than the flavor's root disk
        """
        image_id, container_format, disk_format, size = (
            getattr(image_meta, name) if image_meta.obj_attr_is_set(name) else None
            for name in ("id", "container_format", "disk_format", "size")
        )
        if (container_format, disk_format) != ("docker", "raw"):
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason="container_format must be docker and disk_format raw, but they "
                f"are {container_format} and {disk_format}",
            )
        if not _GLANCE_ID.fullmatch(image_id or ""):
            raise exception.ImageUnacceptable(
                image_id=image_id, reason="image ID is not a lower-case UUID"
            )
        _check_fits(size or 0, _root_disk(flavor))

    def ensure(
        self,
        context: Any,
        image_meta: objects.ImageMeta,
        flavor: objects.Flavor | None = None,
        trusted_certs: Any = None,
    ) -> dict[str, Any]:
        """Ensure that the engine has an image, and fetch it if necessary.

        Engine calls: GET /images/{name}/json; to fetch an image, POST
        /images/{name}/tag, POST /images/create or POST /images/load. DELETE
        /images/{name} removes an image that was fetched and is then refused.

        :param flavor: if given, the unpacked image must fit its root disk
        :param trusted_certs: ``Instance.trusted_certs``, one of which must have issued
            the certificate of the image's signature. The image is downloaded again to
            verify its signature unless it has been verified with these certificates.
        :returns: the image, as GET /images/{name}/json returns it
        :raises ImageUnacceptable: if the image is at fault
        :raises FlavorDiskSmallerThanImage: if it does not fit the root disk
        :raises ImageNotFound: or another of Nova's exceptions, if Glance refuses
        :raises CouldNotFetchImage: if Glance, the connection to it or the engine fails,
            or the engine's disk has no space, so that another host may succeed
        """
        self.check(image_meta, flavor)
        image_id = image_meta.id
        root = _root_disk(flavor)
        tag = tag_of(image_id)
        with lockutils.lock(lock_name(image_id)), _host_errors(image_id):
            found = None
            with contextlib.suppress(errors.ImageNotFound):
                found = self._client.inspect_image(tag)
            trusted = (image_id, *sorted(trusted_certs.ids)) if trusted_certs else None
            if not found:
                self._refusals.check(image_meta, root)
                # Nobody else has this lock: a server with a larger flavor cannot have
                # got the image in the meantime.
                with self._removed_on_failure(tag):
                    if not trusted:
                        found = self._take(image_id, tag, root)
                    if not found:
                        found = self._load(context, image_meta, root, trusted_certs)
                    self._check_configuration(image_meta, found)
            elif trusted and trusted not in self._trusted:
                found = self._load(context, image_meta, root, trusted_certs)
            if trusted:
                self._trusted.add(trusted)
        # With containerd's image store, this is the compressed size.
        _check_fits(found["Size"], root)
        # An earlier version may have fetched it.
        self._check_configuration(image_meta, found)
        return found

    def _check_configuration(
        self, image_meta: objects.ImageMeta, found: dict[str, Any]
    ) -> None:
        """Refuse an image whose configuration the host cannot bear.

        :raises ImageUnacceptable: with the limit that it exceeds
        """
        if reason := configuration.problem(found):
            self._refusals.remember(image_meta, reason=reason)
            raise exception.ImageUnacceptable(image_id=image_meta.id, reason=reason)

    @contextlib.contextmanager
    def _removed_on_failure(self, tag: str) -> Iterator[None]:
        """Remove a tag, and an image that has no other, if the block fails."""
        try:
            yield
        except Exception:
            # The engine keeps an image that somebody else has tagged or uses.
            try:
                with contextlib.suppress(errors.ImageNotFound):
                    self._client.remove_image(tag, force=True)
            except errors.DockerError as error:
                LOG.warning("Cannot remove %s, which is refused: %s", tag, error)
            raise

    def cache(self, context: Any, image_id: str) -> bool:
        """Fetch an image before the first server needs it.

        :returns: whether it was fetched; False if the engine had it already
        :raises ImageNotFound: and whatever else :meth:`ensure` raises
        """
        with _host_errors(image_id), contextlib.suppress(errors.ImageNotFound):
            self._client.inspect_image(tag_of(image_id))
            return False
        image_meta = objects.ImageMeta.from_image_ref(
            context, self._image_api, image_id
        )
        self.ensure(context, image_meta)
        return True

    def _take(self, image_id: str, tag: str, root: int) -> dict[str, Any] | None:
        """Take an image from one of its locations, without a download from Glance.

        :param root: bytes of the root disk; 0 for no limit
        :returns: GET /images/{name}/json; None if no location has it
        """
        for place in self._locations.of(image_id) if self._locations else ():
            if isinstance(place, location.EngineImage):
                with contextlib.suppress(errors.ImageNotFound):
                    # The ID is a digest: any engine with this ID has the same image.
                    found = self._client.inspect_image(place.image_id)
                    return self._adopt(found, image_id, tag, root)
            if place.reference and (
                pulled := self._pull(place.reference, image_id, tag, root)
            ):
                return pulled
        return None

    def _adopt(
        self, found: dict[str, Any], image_id: str, tag: str, root: int
    ) -> dict[str, Any]:
        """Tag an image that the engine has as a Glance image.

        :raises ImageUnacceptable: if it is for another architecture
        :raises FlavorDiskSmallerThanImage: if it does not fit the root disk
        """
        _check_fits(found["Size"], root)
        host = self._architecture()
        if host and found["Architecture"] != host:
            raise exception.ImageUnacceptable(
                image_id=image_id,
                reason=f"image is for {found['Architecture']} machines, but this host "
                f"is {host}",
            )
        repository, _, version = tag.rpartition(":")
        self._client.tag_image(found["Id"], repository, version)
        LOG.info("Using image %s of the engine as image %s", found["Id"], image_id)
        return found

    def _pull(
        self, reference: str, image_id: str, tag: str, root: int
    ) -> dict[str, Any] | None:
        """Pull an image from a registry, unless the engine has it.

        The engine unpacks layers as they arrive, so only their compressed size is
        checked in advance, and that of the whole image afterwards.

        :param reference: ``registry/repository@sha256:…``
        :param root: bytes of the root disk; 0 for no limit
        :returns: GET /images/{name}/json; None if the pull fails
        """
        repository, _, digest = reference.partition("@")
        with lockutils.lock(f"nova-docker-{digest.replace(':', '-')}"):
            with contextlib.suppress(errors.ImageNotFound):
                found = self._client.inspect_image(reference)
                return self._adopt(found, image_id, tag, root)
            LOG.info("Pulling %s for image %s", reference, image_id)
            try:
                auth = credentials(
                    CONF.docker.registry_auth_file, location.registry_of(repository)
                )
                size = pull.compressed_size(reference, auth, self._architecture()) or 0
                _check_fits(size, root)
                with self._space.reserve(pull.ON_DISK * size):
                    self._client.pull_image(repository, digest, auth)
            except (errors.DockerError, ValueError) as error:
                LOG.warning(
                    "Cannot pull %s; downloading image %s from Glance instead: %s",
                    reference,
                    image_id,
                    error,
                )
                return None
            try:
                found = self._client.inspect_image(reference)
                return self._adopt(found, image_id, tag, root)
            finally:
                # With a second name, the image would stay after the removal of its tag.
                with contextlib.suppress(errors.ImageNotFound):
                    self._client.remove_image(reference)

    def _architecture(self) -> str | None:
        """Return the GOARCH name of the engine, if it says so."""
        return self._client.version().get("Arch")

    def _load(
        self,
        context: Any,
        image_meta: objects.ImageMeta,
        root: int,
        trusted_certs: Any,
    ) -> dict[str, Any]:
        """Download an image from Glance and load it into the engine.

        :param root: bytes of the root disk; 0 for no limit
        :returns: GET /images/{name}/json
        """
        image_id = image_meta.id
        tag = tag_of(image_id)
        LOG.info("Loading image %s into the Docker engine", image_id)

        def fetch(sink: _Download) -> None:
            # Translate here: an HTTP client mistakes an OSError from the iterator that
            # it sends for an error of its own connection.
            with _host_errors(image_id):
                try:
                    self._image_api.download(
                        context, image_id, data=sink, trusted_certs=trusted_certs
                    )
                except cryptography.exceptions.InvalidSignature as error:
                    # Nova would try other hosts, and drop the reason.
                    raise exception.ImageUnacceptable(
                        image_id=image_id, reason="signature verification failed"
                    ) from error

        download = _Download(fetch)
        with (
            self._space.reserve() as space,
            self._image_errors(image_meta, root),
            contextlib.closing(download),
        ):
            archive = ImageArchive(
                download,
                tag,
                self._architecture(),
                max_unpacked=root or None,
                on_growth=space.grow,
            )
            for message in self._client.load_image(archive):
                # With containerd's image store, this is not reported as an error.
                if message.get("stream", "").startswith(_NOT_UNPACKED):
                    self._client.remove_image(tag)
                    raise errors.EngineError(message["stream"].strip())
            found = self._client.inspect_image(tag)
            if root and found["Size"] > root:
                raise ImageTooLarge(found["Size"])
        # The IDs may differ: with containerd's image store, an ID is the digest of a
        # manifest that the engine has generated.
        if found["RootFS"]["Layers"] != archive.diff_ids:
            self._client.remove_image(tag)
            raise exception.CouldNotFetchImage(
                f"The Docker engine loaded different layers than those of image "
                f"{image_id}; it has been removed"
            )
        return found

    @contextlib.contextmanager
    def _image_errors(self, image_meta: objects.ImageMeta, root: int) -> Iterator[None]:
        """Translate the errors of a load that are the image's fault, and remember them.

        :raises ImageUnacceptable: if no host can load the image
        :raises FlavorDiskSmallerThanImage: if it does not fit the root disk
        """
        try:
            yield
        except ImageTooLarge as error:
            self._refusals.remember(image_meta, at_least=error.size)
            raise exception.FlavorDiskSmallerThanImage(
                flavor_size=root, image_size=error.size
            ) from error
        except (ArchiveError, errors.DockerError) as error:
            reason = str(error)
            if isinstance(error, errors.DockerError):
                if _HOST_TROUBLE.search(reason) or not _BAD_LAYER.search(reason):
                    raise
                reason = f"the Docker engine cannot unpack it: {reason}"
            self._refusals.remember(image_meta, reason=reason)
            raise exception.ImageUnacceptable(
                image_id=image_meta.id, reason=reason
            ) from error


class _Download:
    """The bytes of an image as they arrive from Glance. Can be iterated over once.

    Nova can return the bytes as an iterator, but only after verifying a signature has
    consumed it. It verifies a signature on the fly only while writing to a file: this
    is such a file, to which Nova writes in a thread.

    :param fetch: writes the image to the file that it receives. The iteration raises
        whatever it raises.
    """

    def __init__(self, fetch: Callable[[_Download], None]) -> None:
        self._fetch = fetch
        self._chunks: queue.Queue[bytes | BaseException | None] = queue.Queue(
            _READ_AHEAD
        )
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        threading.Thread(target=self._run, name="docker-image", daemon=True).start()
        while (chunk := self._chunks.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk

    def close(self) -> None:
        """Abort the download if it has not ended. Does not wait for Glance."""
        self._closed = True
        # This unblocks a writer that is waiting for space, which then sees the flag.
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

    # The methods of the file that Nova calls

    def write(self, chunk: bytes) -> None:
        self._chunks.put(chunk)
        if self._closed:
            raise OSError(errno.EPIPE, "The download has been aborted")

    def truncate(self, size: int) -> None:
        """Do nothing: after this call, Nova raises that the signature is wrong."""


def _root_disk(flavor: objects.Flavor | None) -> int:
    """Return the size of a flavor's root disk in bytes; 0 for no limit."""
    return flavor.root_gb * units.Gi if flavor else 0


def _check_fits(size: int, root: int) -> None:
    if root and size > root:
        raise exception.FlavorDiskSmallerThanImage(flavor_size=root, image_size=size)


@contextlib.contextmanager
def _host_errors(image_id: str) -> Iterator[None]:
    """Translate errors of the engine and of the connection to Glance.

    :raises CouldNotFetchImage: for them; another host may succeed
    """
    try:
        yield
    except NoSpace as error:
        raise exception.CouldNotFetchImage(
            f"Could not fetch image {image_id}: {error}"
        ) from error
    except OSError as error:
        # The hash did not match, or the connection was lost.
        raise exception.CouldNotFetchImage(
            f"Could not fetch image {image_id} from Glance: {error}"
        ) from error
    except errors.DockerError as error:
        raise exception.CouldNotFetchImage(
            f"The Docker engine could not load image {image_id}: {error}"
        ) from error
