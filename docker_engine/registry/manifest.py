# SPDX-License-Identifier: Apache-2.0
"""Manifests and indexes of images: what names an image's parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from docker_engine import strict_json
from docker_engine.reference import DIGEST
from docker_engine.registry.errors import BadImage
from docker_engine.strict_json import short

# Bytes. The first is what registries themselves take; images have some thousand.
MAX_MANIFEST = 4 * 1024 * 1024

MAX_CONFIG = 1024 * 1024

# Docker's own limit.
MAX_LAYERS = 127

_MAX_SIZE = 2**63 - 1

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
    """What names a blob.

    :ivar digest: ``sha256:`` and 64 hexadecimal digits
    :ivar size: bytes
    """

    digest: str
    size: int
    media_type: str


@dataclasses.dataclass(frozen=True)
class Image:
    """An image for one architecture.

    :ivar digest: of what was asked for, the one to pull by: an index's, if the
        image was chosen from an index
    :ivar layers: lowest first, one at least
    """

    repository: str
    digest: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


def chosen(index: Mapping[str, Any], architecture: str) -> Descriptor:
    """Return what an index has for Linux on an architecture."""
    entries = index.get("manifests")
    if not isinstance(entries, list):
        raise BadImage("its index names no images")
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if (
            isinstance(platform, dict)
            and platform.get("os") == "linux"
            and platform.get("architecture") == architecture
        ):
            return _descriptor(entry, MAX_MANIFEST)
    raise BadImage(f"it is not for linux/{architecture}")


def parts(manifest: Mapping[str, Any]) -> tuple[Descriptor, tuple[Descriptor, ...]]:
    """Return a manifest's configuration and layers."""
    config = _descriptor(manifest.get("config"), MAX_CONFIG)
    if config.media_type not in _CONFIGS:
        raise BadImage(
            f"it is no container image: its configuration is {short(config.media_type)}"
        )
    entries = manifest.get("layers")
    if not isinstance(entries, list) or not entries:
        raise BadImage("it has no layer, so nothing to run")
    if len(entries) > MAX_LAYERS:
        raise BadImage(f"it has more than {MAX_LAYERS} layers")
    layers = tuple(_layer(entry) for entry in entries)
    if len({layer.digest for layer in layers}) < len(set(layers)):
        raise BadImage("it gives one layer two sizes or media types")
    return config, layers


def _layer(entry: Any) -> Descriptor:
    layer = _descriptor(entry, _MAX_SIZE)
    kind = layer.media_type
    if entry.get("urls") or "foreign" in kind or "nondistributable" in kind:
        raise BadImage("it has a layer that lies elsewhere than in the registry")
    if kind.endswith(("+zstd", ".zstd")):
        raise BadImage(
            "it has a layer that is compressed with zstd: push it with gzip, "
            "skopeo copy --dest-compress-format gzip OLD NEW"
        )
    if kind not in _LAYERS:
        raise BadImage(f"it has a layer that is {short(kind)}")
    return layer


def _descriptor(entry: Any, max_size: int) -> Descriptor:
    if not isinstance(entry, dict):
        raise BadImage("its manifest is malformed")
    digest, size = entry.get("digest"), entry.get("size")
    kind = entry.get("mediaType")
    if not isinstance(kind, str):
        raise BadImage("its manifest is malformed: a part has no media type")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise BadImage(f"it has a part whose digest is {short(digest)}")
    # True is an int too.
    if type(size) is not int or not 0 <= size <= max_size:
        raise BadImage(f"it has a part of {short(size)} bytes")
    return Descriptor(digest, size, kind)


def parse(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a registry answers with.

    :raises BadImage: if the answer is not one, or is ambiguous
    """
    try:
        content = strict_json.loads(body)
    except ValueError:
        raise BadImage("its answer is not JSON") from None
    if not isinstance(content, dict):
        raise BadImage("its answer is not a JSON object")
    return content
