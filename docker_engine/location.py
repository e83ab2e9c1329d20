# SPDX-License-Identifier: Apache-2.0
"""``docker://`` locations of images that Glance lists but Docker stores.

There are two kinds. Neither uses URL encoding, so every location has exactly one
spelling::

    docker://ENGINE/NAME:TAG?id=sha256:…&size=BYTES[&digest=REPOSITORY@sha256:…]
    docker://REGISTRY[:PORT]/REPOSITORY@sha256:…

The first is an image on the engine that Glance's store calls ENGINE. The id is a digest
of the image, so an image with this id is the same on every engine. The second is an
image in a registry, by the digest of its manifest.
"""

from __future__ import annotations

import dataclasses
import re

from docker_engine.reference import DIGEST_PATTERN
from docker_engine.reference import HOST_PATTERN
from docker_engine.reference import REPOSITORY_PATTERN
from docker_engine.reference import TAG_PATTERN

SCHEME = "docker"

# Longer than any valid location.
_MAX_LENGTH = 2000

_FULL_REPOSITORY = rf"(?:{HOST_PATTERN}/)?{REPOSITORY_PATTERN}"
_ENGINE = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"

_ENGINE_URL = re.compile(
    rf"docker://(?P<engine>{_ENGINE})/(?P<name>{_FULL_REPOSITORY}:{TAG_PATTERN})"
    rf"\?id=(?P<image_id>{DIGEST_PATTERN})&size=(?P<size>[1-9][0-9]{{0,17}})"
    rf"(?:&digest=(?P<digest>{_FULL_REPOSITORY}@{DIGEST_PATTERN}))?"
)
_REGISTRY_URL = re.compile(
    rf"docker://(?P<registry>{HOST_PATTERN})/(?P<repository>{REPOSITORY_PATTERN})"
    rf"@(?P<digest>{DIGEST_PATTERN})"
)
_ENGINE_NAME = re.compile(_ENGINE)


@dataclasses.dataclass(frozen=True)
class EngineImage:
    """An image on an engine.

    :ivar engine: name of the engine in Glance's configuration
    :ivar name: ``repository:tag``
    :ivar image_id: the engine's id of the image, ``sha256:…``
    :ivar size: bytes of its archive, as the store returns it
    :ivar digest: ``repository@sha256:…`` if a registry has the image too
    """

    engine: str
    name: str
    image_id: str
    size: int
    digest: str | None = None

    @property
    def reference(self) -> str | None:
        """What other engines can pull: ``repository@sha256:…``, None if nothing."""
        return self.digest

    @property
    def url(self) -> str:
        digest = f"&digest={self.digest}" if self.digest else ""
        return (
            f"{SCHEME}://{self.engine}/{self.name}"
            f"?id={self.image_id}&size={self.size}{digest}"
        )


@dataclasses.dataclass(frozen=True)
class RegistryImage:
    """An image in a registry.

    :ivar registry: ``host`` or ``host:port``
    :ivar repository: without the registry
    :ivar digest: digest of the manifest, ``sha256:…``
    """

    registry: str
    repository: str
    digest: str

    @property
    def reference(self) -> str:
        """What engines can pull: ``registry/repository@sha256:…``."""
        return f"{self.registry}/{self.repository}@{self.digest}"

    @property
    def url(self) -> str:
        return f"{SCHEME}://{self.reference}"


Location = EngineImage | RegistryImage


def parse(url: str) -> Location:
    """Parse a location.

    :raises ValueError: if it is not in the form that this module writes
    """
    if len(url) <= _MAX_LENGTH:
        if found := _ENGINE_URL.fullmatch(url):
            return EngineImage(
                engine=found["engine"],
                name=found["name"],
                image_id=found["image_id"],
                size=int(found["size"]),
                digest=found["digest"],
            )
        if found := _REGISTRY_URL.fullmatch(url):
            return RegistryImage(**found.groupdict())
    raise ValueError(f"not a docker:// location: {url[:200]!r}")


def registry_of(repository: str) -> str:
    """Return the registry from which an engine pulls a repository."""
    first, slash, _ = repository.partition("/")
    if slash and (first == "localhost" or {".", ":"} & set(first)):
        return first
    return "docker.io"


def check_engine(name: str) -> str:
    """Return the name of an engine if it can be used in locations.

    :raises ValueError: if it cannot
    """
    if not _ENGINE_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} is not a valid engine name; use up to 63 ASCII letters, digits, "
            "'.', '_' and '-', beginning with a letter or digit"
        )
    return name
