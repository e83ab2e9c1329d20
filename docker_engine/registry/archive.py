# SPDX-License-Identifier: Apache-2.0
"""An archive for ``docker load``, composed of what a registry has."""

from __future__ import annotations

import json
from collections.abc import Iterator

from docker_engine.archive import tar
from docker_engine.registry.client import Registry
from docker_engine.registry.manifest import Descriptor
from docker_engine.registry.manifest import Image


class RegistryArchive:
    """What ``docker load`` takes, composed of a registry's blobs as they come.

    Layers are as the registry has them, compressed or not. The manifest, without
    which an engine loads nothing, is last. Each iteration reads the blobs anew.

    :param tag: what the image is called in the archive, ``name:tag``, or empty
    :raises RegistryError: while iterating
    """

    def __init__(self, registry: Registry, image: Image, tag: str) -> None:
        self._registry = registry
        self._image = image
        # An image may have the same layer twice, an archive need not.
        self._names: dict[str, str] = {}
        self._layers: list[Descriptor] = []
        for layer in image.layers:
            if layer.digest not in self._names:
                self._layers.append(layer)
                self._names[layer.digest] = f"{len(self._layers)}.tar"
        manifest = {
            "Config": "config.json",
            "RepoTags": [tag] if tag else None,
            "Layers": [self._names[layer.digest] for layer in image.layers],
        }
        self._manifest = json.dumps([manifest]).encode()

    @property
    def size(self) -> int:
        """Bytes of the archive, known from the image's manifest alone."""
        sizes = [self._image.config.size, *(layer.size for layer in self._layers)]
        sizes.append(len(self._manifest))
        block = tar.BLOCK
        return sum(block + size + -size % block for size in sizes) + 2 * block

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blob("config.json", self._image.config)
        for layer in self._layers:
            yield from self._blob(self._names[layer.digest], layer)
        yield tar.header("manifest.json", len(self._manifest))
        yield self._manifest
        yield tar.padding(len(self._manifest)) + bytes(2 * tar.BLOCK)

    def _blob(self, name: str, descriptor: Descriptor) -> Iterator[bytes]:
        yield tar.header(name, descriptor.size)
        yield from self._registry.blob(self._image.repository, descriptor)
        if padding := tar.padding(descriptor.size):
            yield padding
