# SPDX-License-Identifier: Apache-2.0
"""The read-only glance_store driver ``docker``: images of an engine or a registry.

A store serves one engine or one registry. Glance may have several stores.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from typing import Any
from typing import NoReturn

import glance_store
from glance_store import capabilities
from glance_store import driver
from glance_store import exceptions
from glance_store import location as glance_location
from oslo_log import log as logging

from docker_engine import errors
from docker_engine import location
from docker_engine import registry
from docker_engine.archive import ArchiveError
from docker_engine.credentials import credentials
from glance_docker import conf as options
from glance_docker import export
from glance_docker import slots

LOG = logging.getLogger(__name__)

# Seconds for which an image that exists is not looked up again.
_SEEN_FOR = 1

# Seconds that every reader of an engine's image has, however small the image is.
_GRACE = 60


class StoreLocation(glance_location.StoreLocation):
    """A ``docker://`` URL, parsed.

    :ivar image: the image that it locates
    """

    image: location.EngineImage | location.RegistryImage

    def parse_uri(self, uri: str) -> None:
        """Parse a URL.

        :raises BadStoreUri: when it is not a ``docker://`` URL in its canonical form
        """
        try:
            self.image = location.parse(uri)
        except ValueError as error:
            raise exceptions.BadStoreUri(message=str(error)) from error

    def get_uri(self) -> str:
        return self.image.url


class Store(driver.Store):
    """A read-only store of one engine's or one registry's images.

    It offers no parts of images: to read one byte, the engine would export the whole
    image, and all layers before that byte would come from the registry. Glance answers
    400 to a request for a range.
    """

    _CAPABILITIES = (
        capabilities.BitMasks.READ_ACCESS | capabilities.BitMasks.DRIVER_REUSABLE
    )
    OPTIONS = options.store_opts

    def __init__(self, conf: Any, backend: str | None = None) -> None:
        super().__init__(conf, backend=backend)
        group = conf[backend or "glance_store"]
        # The directory that glance-docker-sync should have in its configuration, too.
        locks = options.lock_path(conf)
        self._source: _Source
        try:
            if group.docker_registry:
                self._source = _RegistrySource(group)
            else:
                self._source = _EngineSource(group, locks)
        except ValueError as error:
            raise exceptions.BadStoreConfiguration(
                store_name=backend or location.SCHEME, reason=str(error)
            ) from error
        # Glance finds the store of a location by this prefix.
        self._url_prefix = f"{location.SCHEME}://{self._source.authority}/"

    def get_schemes(self) -> tuple[str, ...]:
        return (location.SCHEME,)

    @capabilities.check
    def get(
        self,
        location: glance_location.Location,
        offset: int = 0,
        chunk_size: int | None = None,
        context: Any = None,
    ) -> tuple[Iterator[bytes], int]:
        """Read an image.

        :param offset: 0; the decorator refuses anything else
        :param chunk_size: Glance's name for the number of bytes to read, None
        :returns: the bytes, and their number
        :raises NotFound: when the image no longer exists
        :raises RemoteServiceUnavailable: when the engine or registry cannot be read,
            or when too many others are reading the engine's images
        :raises StoreRandomGetNotSupported: when a part of the image is requested
        """
        if offset or chunk_size is not None:
            raise exceptions.StoreRandomGetNotSupported(
                offset=offset, chunk_size=chunk_size
            )
        with self._translated(location):
            size, chunks = self._source.open(self._image(location))
        # The lookup is done, so Glance can still answer with an error. Data is read
        # when Glance reads it.
        return _exactly(size, self._read(location, chunks)), size

    def get_size(self, location: glance_location.Location, context: Any = None) -> int:
        """Return the size of the image that :meth:`get` reads, in bytes.

        :raises NotFound: when the image no longer exists
        :raises RemoteServiceUnavailable: when the engine or registry cannot be read
        """
        with self._translated(location):
            return self._source.size(self._image(location))

    @capabilities.check
    def add(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse uploads: the decorator raises StoreAddDisabled."""
        raise exceptions.StoreAddDisabled

    @capabilities.check
    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse deletion: the decorator raises StoreDeleteNotSupported.

        Glance then deletes only its own record of the image.
        """
        raise exceptions.StoreDeleteNotSupported

    def _image(self, location: glance_location.Location) -> Any:
        """Return the image at a location.

        :raises BadStoreUri: when the location belongs to another store
        """
        image = location.store_location.image
        if not image.url.startswith(self._url_prefix):
            raise exceptions.BadStoreUri(
                message=f"{image.url} does not belong to the store {self._url_prefix}"
            )
        return image

    def _read(
        self, location: glance_location.Location, chunks: Iterator[bytes]
    ) -> Iterator[bytes]:
        with self._translated(location):
            yield from chunks

    @contextlib.contextmanager
    def _translated(self, location: glance_location.Location) -> Iterator[None]:
        url = location.get_store_uri()
        try:
            yield
        except (errors.NotFound, registry.NotFound) as error:
            raise exceptions.NotFound(message=f"{url}: {error}") from error
        except (registry.BadImage, ArchiveError) as error:
            raise exceptions.BadStoreUri(message=f"{url}: {error}") from error
        except (
            errors.DockerError,
            registry.RegistryError,
            export.TooSlow,
            slots.Busy,
        ) as error:
            LOG.warning("Cannot read %s: %s", url, error)
            raise exceptions.RemoteServiceUnavailable(
                message=f"{url}: {error}"
            ) from error


class _EngineSource:
    """The images of an engine.

    :param locks: directory of the locks that bound the number of exports
    """

    def __init__(self, group: Any, locks: str | None) -> None:
        self.authority = location.check_engine(group.docker_engine)
        self._client = options.engine(group)
        # One is left for glance-docker-sync: readers cannot keep it from listing.
        self._slots = slots.Slots(
            locks, self.authority, group.docker_exports, reserved=1
        )
        self._wait = group.docker_export_wait
        self._rate = 1024 * group.docker_export_rate
        self._seen: tuple[str, float] = ("", 0)

    def size(self, image: location.EngineImage) -> int:
        """Return the size that the location states, if the image exists.

        Engine call: "GET /images/{name}/json"
        """
        now = time.monotonic()
        # Glance asks twice in a row when it adds a location.
        if self._seen[0] != image.image_id or now > self._seen[1]:
            self._client.inspect_image(image.image_id)
            self._seen = image.image_id, now + _SEEN_FOR
        return image.size

    def open(self, image: location.EngineImage) -> tuple[int, Iterator[bytes]]:
        # Exporting an image that does not exist fails without a reason in Docker 20.10.
        self._client.inspect_image(image.image_id)
        return image.size, _started(self._export(image))

    def _export(self, image: location.EngineImage) -> Iterator[bytes]:
        limit = _GRACE + image.size / self._rate
        with self._slots.taken(self._wait) as slot:
            yield from export.export_in_time(
                self._client, image.image_id, image.name, slot, limit
            )


class _RegistrySource:
    """The images of a registry."""

    def __init__(self, group: Any) -> None:
        self.authority = group.docker_registry
        self._architecture = group.docker_registry_architecture
        self._registry = registry.Registry(
            self.authority,
            auth=credentials(group.docker_registry_auth_file, self.authority),
            ca_file=group.docker_ca_file,
            verify=group.docker_tls_verify,
            connect_timeout=group.docker_connect_timeout,
            read_timeout=group.docker_read_timeout,
        )

    def size(self, image: location.RegistryImage) -> int:
        return self._archive(image).size

    def open(self, image: location.RegistryImage) -> tuple[int, Iterator[bytes]]:
        archive = self._archive(image)
        return archive.size, iter(archive)

    def _archive(self, image: location.RegistryImage) -> registry.RegistryArchive:
        found = self._registry.resolve(
            image.repository, image.digest, self._architecture
        )
        # No name: `docker load` cannot give an image a digest.
        return registry.RegistryArchive(self._registry, found, "")


_Source = _EngineSource | _RegistrySource


def _started(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Read the first chunk now, to find out whether the image can be read."""
    first = next(chunks)
    return itertools.chain([first], chunks)


def _exactly(size: int, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield chunks of exactly ``size`` bytes in all, the size that Glance expects.

    :raises BackendException: as soon as there are more bytes, or at the end when
        there are fewer
    """
    left = size
    for chunk in chunks:
        left -= len(chunk)
        if left < 0:
            break
        yield chunk
    if left:
        raise glance_store.BackendException(
            f"The image does not have the size in its location, {size} bytes"
        )
