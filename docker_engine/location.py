# SPDX-License-Identifier: Apache-2.0
"""``docker://`` locations: where Docker has an image that Glance lists.

Two kinds, of which neither has anything to decode, so that there is one way to
write a location and one to read it::

    docker://ENGINE/NAME:TAG?id=sha256:…&size=BYTES[&digest=REPOSITORY@sha256:…]
    docker://REGISTRY[:PORT]/REPOSITORY@sha256:…

The first is an image of an engine that Glance's store knows as ENGINE. Its id is
a digest of the image, so whichever engine has an image of this id has the same.
The second is an image of a registry, by the digest of its manifest.
"""

from __future__ import annotations

import dataclasses
import re

from docker_engine.reference import DIGEST_PATTERN
from docker_engine.reference import HOST_PATTERN
from docker_engine.reference import REPOSITORY_PATTERN
from docker_engine.reference import TAG_PATTERN

SCHEME = "docker"

# Longer than any that a tag, a digest and their repositories make.
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
    """An image of an engine.

    :ivar engine: what the store calls the engine
    :ivar name: ``repository:tag``
    :ivar image_id: the engine's id of the image, ``sha256:…``
    :ivar size: bytes of its archive, as the store gives it
    :ivar digest: ``repository@sha256:…`` where a registry has it too
    """

    engine: str
    name: str
    image_id: str
    size: int
    digest: str | None = None

    @property
    def reference(self) -> str | None:
        """What another engine pulls, if it can: ``repository@sha256:…``."""
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
    """An image of a registry.

    :ivar registry: ``host`` or ``host:port``
    :ivar repository: without the registry
    :ivar digest: of the manifest, ``sha256:…``
    """

    registry: str
    repository: str
    digest: str

    @property
    def reference(self) -> str:
        """What an engine pulls: ``registry/repository@sha256:…``."""
        return f"{self.registry}/{self.repository}@{self.digest}"

    @property
    def url(self) -> str:
        return f"{SCHEME}://{self.reference}"


Location = EngineImage | RegistryImage


def parse(url: str) -> Location:
    """Read a location.

    :raises ValueError: when it is not written as this module writes it
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
    raise ValueError(f"not a location of Docker's: {url[:200]!r}")


def registry_of(repository: str) -> str:
    """Return the registry that an engine would ask for a repository."""
    first, slash, _ = repository.partition("/")
    if slash and (first == "localhost" or {".", ":"} & set(first)):
        return first
    return "docker.io"


def check_engine(name: str) -> str:
    """Return a name that an engine may have in locations.

    :raises ValueError: when it may not
    """
    if not _ENGINE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be an engine's name in locations")
    return name
