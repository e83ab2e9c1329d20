# SPDX-License-Identifier: Apache-2.0
"""Image manifests and indexes: parsing and validation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from docker_engine import strict_json
from docker_engine.reference import DIGEST
from docker_engine.registry.errors import BadImage
from docker_engine.strict_json import short

# Bytes. The first is the limit of registries themselves; typical manifests have a few
# thousand.
MAX_MANIFEST = 4 * 1024 * 1024
MAX_CONFIG = 1024 * 1024
_MAX_SIZE = 2**63 - 1

# Docker's own limit.
MAX_LAYERS = 127

# Media types.
INDEXES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_CONFIGS = (
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.oci.image.config.v1+json",
)
_LAYERS = (
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
)


@dataclasses.dataclass(frozen=True)
class Descriptor:
    """A reference to a blob.

    :ivar digest: ``sha256:`` and 64 hexadecimal digits
    :ivar size: in bytes
    """

    digest: str
    size: int
    media_type: str


@dataclasses.dataclass(frozen=True)
class Image:
    """An image for one architecture.

    :ivar digest: the one to pull by: that of the index if the image was selected from
        an index, of the manifest otherwise
    :ivar layers: at least one, lowest first
    """

    repository: str
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def select(index: Mapping[str, Any], architecture: str) -> Descriptor:
    """Return the manifest that an index lists for Linux on an architecture.

    :raises BadImage: if there is none
    """
    entries = index.get("manifests")
    if not isinstance(entries, list):
        raise BadImage("malformed index")
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if (
            isinstance(platform, dict)
            and platform.get("os") == "linux"
            and platform.get("architecture") == architecture
        ):
            return _descriptor(entry, MAX_MANIFEST)
    raise BadImage(f"no image for linux/{architecture}")


def config_and_layers(
    manifest: Mapping[str, Any],
) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return the configuration and the layers of a manifest.

    :raises BadImage: if it is malformed, or not of a container image
    """
    config = _descriptor(manifest.get("config"), MAX_CONFIG)
    if config.media_type not in _CONFIGS:
        raise BadImage(
            f"not a container image: configuration is {short(config.media_type)}"
        )
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not entries:
        raise BadImage("image has no layers")
    if len(entries) > MAX_LAYERS:
        raise BadImage(f"image has more than {MAX_LAYERS} layers")
    layers = tuple(_layer(entry) for entry in entries)
    if len({layer.digest for layer in layers}) < len(set(layers)):
        raise BadImage("a layer is listed with two sizes or media types")
    return config, layers


def _layer(entry: Any) -> Descriptor:
    layer = _descriptor(entry, _MAX_SIZE)
    kind = layer.media_type
    if entry.get("urls") or "foreign" in kind or "nondistributable" in kind:
        raise BadImage("a layer is stored outside the registry")
    if kind.endswith(("+zstd", ".zstd")):
        raise BadImage(
            "a layer is compressed with zstd; convert the image with "
            "skopeo copy --dest-compress-format gzip OLD NEW"
        )
    if kind not in _LAYERS:
        raise BadImage(f"unsupported layer media type {short(kind)}")
    return layer


def _descriptor(entry: Any, max_size: int) -> Descriptor:
    if not isinstance(entry, dict):
        raise BadImage("malformed manifest")
    digest, size = entry.get("digest"), entry.get("size")
    kind = entry.get("mediaType")
    if not isinstance(kind, str):
        raise BadImage("malformed manifest: media type missing")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadImage(f"malformed manifest: invalid digest {short(digest)}")
    # Not isinstance: True is an int too.
    if type(size) is not int or not 0 <= size <= max_size:
        raise BadImage(f"malformed manifest: invalid or excessive size {short(size)}")
    return Descriptor(digest, size, kind)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a registry's response.

    :raises BadImage: if it is not one, or is ambiguous
    """
    try:
        content = strict_json.loads(body)
    except ValueError:
        raise BadImage("response is not valid JSON") from None
    if not isinstance(content, dict):
        raise BadImage("response is not a JSON object")
    return content
