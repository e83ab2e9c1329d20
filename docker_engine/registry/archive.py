# SPDX-License-Identifier: Apache-2.0
"""An archive for ``docker load``, made of a registry's blobs."""

from __future__ import annotations

from collections.abc import Iterator

from docker_engine.archive import manifest
from docker_engine.archive import tar
from docker_engine.registry.client import Registry
from docker_engine.registry.manifest import Descriptor
from docker_engine.registry.manifest import Image


class RegistryArchive:
    """An archive for ``docker load`` that streams an image from a registry.

    Layers are copied as they are, compressed or not. The manifest, without which an
    engine loads nothing, comes last. Every iteration reads the blobs again.

    :param tag: name of the image in the archive, ``name:tag``; empty for none
    :raises RegistryError: while iterating
    """

    def __init__(self, registry: Registry, image: Image, tag: str) -> None:
        self._registry = registry
        self._image = image
        # A layer that occurs twice in the image is stored once.
        self._names: dict[str, str] = {}
        self._layers: list[Descriptor] = []
        for layer in image.layers:
            if layer.digest not in self._names:
                self._layers.append(layer)
                self._names[layer.digest] = f"{len(self._layers)}.tar"
        names = [self._names[layer.digest] for layer in image.layers]
        self._manifest = manifest.for_image(tag, names)

    @property
    def size(self) -> int:
        """Size of the archive in bytes, known without reading a blob."""
        sizes = [self._image.config.size, *(layer.size for layer in self._layers)]
        sizes.append(len(self._manifest))
        members = sum(tar.BLOCK + size + len(tar.padding(size)) for size in sizes)
        return members + len(tar.END)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._blob(manifest.CONFIG, self._image.config)
        for layer in self._layers:
            yield from self._blob(self._names[layer.digest], layer)
        yield from tar.file(manifest.MANIFEST, self._manifest)
        yield tar.END

    def _blob(self, name: str, descriptor: Descriptor) -> Iterator[bytes]:
        yield tar.header(name, descriptor.size)
        yield from self._registry.blob(self._image.repository, descriptor)
        if padding := tar.padding(descriptor.size):
            yield padding
