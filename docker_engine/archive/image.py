# SPDX-License-Identifier: Apache-2.0
"""Validate a ``docker save`` archive as it streams, and rewrite it.

An uploaded archive is untrusted. Only the bytes of layers and of one configuration
reach the engine, in a new archive with member names chosen here: the uploader's
member names, tags and annotations are dropped. The manifest and the configuration,
without which an engine loads nothing, are sent last, after everything has been read
and validated.

Three checks go beyond those of an engine:

- *Layers must match their digests.* An engine that already has a layer with a digest
  from the configuration uses that layer and never reads the one in the archive. A
  tenant who knows the layer digests of someone else's private image could read its
  content. Here every layer is read and must have its digest.
- *The cost is bounded.* A layer may be compressed with gzip, be used several times,
  hold sparse files or a great many empty ones. Sparse files are rejected, everything
  else is counted: see :mod:`docker_engine.archive.meter`.
- *JSON and tar headers must be unambiguous.* Go, in which engines are written, accepts
  ``"RootFS"`` for ``"rootfs"`` and uses the last of two such keys, so a configuration
  with both would mean different things here and there. It is rejected, and so is any
  tar header that Go's ``archive/tar`` might read differently from this package.

The size of an archive is only limited by the caller; the memory used is bounded (see
``MAX_JSON``).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import posixpath
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from docker_engine import strict_json
from docker_engine.archive import manifest
from docker_engine.archive import tar
from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.errors import ImageTooLarge
from docker_engine.archive.layer import Layer
from docker_engine.archive.layer import compression_of
from docker_engine.archive.meter import Meter
from docker_engine.reference import DIGEST
from docker_engine.strict_json import Object
from docker_engine.strict_json import short

# Bytes of manifest.json and of each configuration, and of everything kept in memory
# until the end of the archive. Real ones are about ten thousand bytes long.
MAX_JSON = 1024 * 1024
MAX_KEPT = 4 * MAX_JSON

# Members of an archive. An image has at most 125 layers, and the classic layout has
# four members for each.
MAX_MEMBERS = 4096

# Layers of an image. An engine refuses the next one after it has unpacked so many.
MAX_LAYERS = 125

_MAX_NAME = 255

_DOCKER_SAVE = "upload the output of docker save"


class ImageArchive:
    """The archive of one image: iterate over it to get the archive to load.

    Iterating reads ``chunks`` to their end before it yields the last chunks, which
    make the archive loadable. It can be done once.

    :param chunks: the uploaded archive; exceptions that they raise are not caught
    :param tag: name of the image in the new archive, ``name:tag``; empty for none
    :param architecture: GOARCH name that the image must have (``amd64``); None to
        accept any
    :param max_unpacked: bytes of the engine's disk that the image may take, counted as
        :mod:`docker_engine.archive.meter` says; None for no limit
    :param on_growth: called, while iterating, with the bytes of disk and the inodes
        that the image will take beyond those of earlier calls. It raises to refuse
        them; that is not caught. The last call comes before the archive is loadable.
    :raises ArchiveError: while iterating
    :raises ImageTooLarge: while iterating, if it takes more than ``max_unpacked``
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        tag: str,
        architecture: str | None = None,
        *,
        max_unpacked: int | None = None,
        on_growth: Callable[[int, int], None] | None = None,
    ) -> None:
        self._chunks = chunks
        self._tag = tag
        self._architecture = architecture
        self._meter = Meter(max_unpacked, on_growth)
        self._kept = 0
        self._written = 0
        self._layer_names: list[str] = []
        # By member name: a layer, JSON that was kept, the target of a link, or None
        # for a member that is not needed. The names are used for look-ups only.
        self._members: dict[str, Layer | bytes | str | None] = {}
        #: After iterating: digest of the configuration, which is the image's id
        self.image_id = ""
        #: After iterating: digests of the expanded layers, lowest first
        self.diff_ids: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        # The payload of a member ends where the next header comes.
        events = self._events()
        for header in events:
            assert isinstance(header, tar.Header)
            yield from self._member(header, iter(events.__next__, None))
        config, self._layer_names = self._check()
        self._meter.report()
        yield from tar.file(manifest.CONFIG, config)
        yield from self._new_manifest(self._tag)
        yield tar.END

    def growth(self, tag: str) -> int:
        """Return by how many bytes another tag would make the archive longer.

        Call this after iterating.
        """
        own, other = (
            sum(map(len, self._new_manifest(name))) for name in (self._tag, tag)
        )
        return other - own

    def _new_manifest(self, tag: str) -> Iterator[bytes]:
        content = manifest.for_image(tag, self._layer_names)
        return tar.file(manifest.MANIFEST, content)

    def _events(self) -> Iterator[tar.Event]:
        walk = tar.Walk(self._meter)
        for chunk in self._chunks:
            if not self._meter.received:
                _check_start(chunk)
            self._meter.received += len(chunk)
            yield from walk.feed(chunk)
        if not self._meter.received:
            raise ArchiveError(f"empty archive; {_DOCKER_SAVE}")
        if self._meter.received < tar.BLOCK:
            raise ArchiveError(f"not a tar archive; {_DOCKER_SAVE}")
        walk.close()
        if not walk.ended:
            raise ArchiveError("truncated: no end-of-archive marker")

    # Members

    def _member(self, header: tar.Header, payload: Iterator[Any]) -> Iterator[bytes]:
        start = next(payload, b"")
        pieces = itertools.chain([start], payload)
        name = _name(header.name)
        if header.kind in tar.FILE:
            self._add(name, None)
            if name != manifest.MANIFEST and Layer.begins(start):
                yield from self._layer(name, header.size, pieces)
            else:
                self._keep(name, header.size, pieces)
        elif header.kind == tar.SYMLINK:
            # The classic layout has a link for a layer that occurs a second time.
            directory = posixpath.dirname(header.name)
            self._add(name, _name(posixpath.join(directory, header.link)))
        elif header.kind not in (tar.DIRECTORY, tar.GLOBAL):
            raise ArchiveError(
                f"member {name!r} is neither a file nor a directory; {_DOCKER_SAVE}, "
                "not of docker export"
            )
        for _ in pieces:
            pass

    def _add(self, name: str, member: str | None) -> None:
        if name in self._members:
            raise ArchiveError(f"duplicate member {name!r}")
        if len(self._members) == MAX_MEMBERS:
            raise ArchiveError(f"more than {MAX_MEMBERS} members")
        self._members[name] = member

    def _layer(self, name: str, size: int, pieces: Iterator[Any]) -> Iterator[bytes]:
        # Numbered, so that the archive of an image has the same length whichever
        # engine wrote the original.
        self._written += 1
        layer = Layer(f"{self._written}.tar", self._meter)
        yield tar.header(layer.name, size)
        for piece in pieces:
            with _about_layer(name):
                layer.feed(piece)
            yield bytes(piece)
        yield tar.padding(size)
        with _about_layer(name):
            layer.close()
        self._members[name] = layer

    def _keep(self, name: str, size: int, pieces: Iterator[Any]) -> None:
        """Keep the manifest, and any member that may be the configuration."""
        if size > MAX_JSON:
            if name == manifest.MANIFEST:
                raise ArchiveError(f"{name} is larger than {MAX_JSON} bytes")
            return
        content = b"".join(pieces)
        if name == manifest.MANIFEST or b'"rootfs"' in content:
            self._kept += size
            if self._kept > MAX_KEPT:
                raise ArchiveError("too many image configurations")
            self._members[name] = content

    # The image

    def _check(self) -> tuple[bytes, list[str]]:
        """Return the configuration and the new names of the layers."""
        image = self._image()
        config = self._config(image.get("Config"))
        layers = self._layers(image.get("Layers"))
        if [layer.diff_id for layer in layers] != self.diff_ids:
            raise ArchiveError("layer digests do not match the image configuration")
        for number, layer in enumerate(layers):
            if layer in layers[:number]:
                # The engine unpacks it again: layers are known by what is below them.
                layer.repeat()
        self.image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        return config, [layer.name for layer in layers]

    def _image(self) -> dict[str, Any]:
        """Return the description of the archive's only image in its manifest."""
        content = self._members.get(manifest.MANIFEST)
        if not isinstance(content, bytes):
            if "index.json" in self._members:
                raise ArchiveError(
                    f"OCI layout without {manifest.MANIFEST}; convert it with "
                    "skopeo copy oci-archive:OLD docker-archive:NEW"
                )
            raise ArchiveError(f"no {manifest.MANIFEST}; {_DOCKER_SAVE}")
        images = _json(content, manifest.MANIFEST)
        if not isinstance(images, list) or not images:
            raise ArchiveError(f"{manifest.MANIFEST} describes no image")
        if len(images) > 1:
            raise ArchiveError(
                f"the archive contains {len(images)} images; run docker save with one"
            )
        if not isinstance(images[0], dict):
            raise ArchiveError(f"{manifest.MANIFEST} describes no image")
        return images[0]

    def _config(self, name: Any) -> bytes:
        content = self._named(name)
        if not isinstance(content, bytes):
            raise ArchiveError(f"image configuration {short(name)} is missing")
        config = _json(content, "image configuration")
        rootfs = config.get("rootfs") if isinstance(config, Object) else None
        if not isinstance(rootfs, Object) or config.ambiguous or rootfs.ambiguous:
            raise ArchiveError("malformed image configuration")
        if config.get("os") != "linux":
            raise ArchiveError(f"image is for {short(config.get('os'))}, not linux")
        if self._architecture not in (None, config.get("architecture")):
            raise ArchiveError(
                f"image is for {short(config.get('architecture'))} machines, but "
                f"this host is {self._architecture}"
            )
        diff_ids = rootfs.get("diff_ids")
        if (
            rootfs.get("type") != "layers"
            or not isinstance(diff_ids, list)
            or not all(isinstance(d, str) and DIGEST.fullmatch(d) for d in diff_ids)
        ):
            raise ArchiveError("image configuration has no valid list of layers")
        if not diff_ids:
            raise ArchiveError("image has no layers")
        if len(diff_ids) > MAX_LAYERS:
            raise ArchiveError(f"image has more than {MAX_LAYERS} layers")
        self.diff_ids = diff_ids
        return content

    def _layers(self, names: Any) -> list[Layer]:
        if not isinstance(names, list):
            raise ArchiveError(f"{manifest.MANIFEST} has no valid list of layers")
        if len(names) != len(self.diff_ids):
            raise ArchiveError("layer digests do not match the image configuration")
        layers = []
        for name in names:
            layer = self._named(name)
            if isinstance(layer, str):
                layer = self._members.get(layer)
            if not isinstance(layer, Layer):
                raise ArchiveError(
                    f"layer {short(name)} is missing or not a tar archive"
                )
            layers.append(layer)
        return layers

    def _named(self, name: Any) -> Layer | bytes | str | None:
        if not isinstance(name, str):
            return None
        return self._members.get(posixpath.normpath(name))


@contextlib.contextmanager
def _about_layer(name: str) -> Iterator[None]:
    """Name the layer in the message of an error."""
    try:
        yield
    except ImageTooLarge:
        raise
    except ArchiveError as error:
        raise ArchiveError(f"layer {short(name)}: {error}") from error


def _check_start(chunk: bytes) -> None:
    """Recognize uploads of common formats that are not image archives."""
    if compression := compression_of(chunk):
        raise ArchiveError(
            f"compressed with {compression}; upload the archive uncompressed"
        )
    if chunk.startswith(b"QFI\xfb"):
        raise ArchiveError(
            "qcow2 disk image; container_format docker is for the output of docker save"
        )
    block = chunk[: tar.BLOCK]
    if len(block) == tar.BLOCK and block != tar.ZEROS:
        try:
            tar.parse(block)
        except ArchiveError:
            raise ArchiveError(f"not a tar archive; {_DOCKER_SAVE}") from None


def _name(raw: bytes) -> str:
    """Return the normalized name of a member."""
    if len(raw) > 4 * _MAX_NAME:
        raise ArchiveError(f"a member's name is longer than {_MAX_NAME} characters")
    try:
        name = posixpath.normpath(raw.decode())
    except UnicodeDecodeError as error:
        raise ArchiveError("a member's name is not UTF-8") from error
    if len(name) > _MAX_NAME:
        raise ArchiveError(f"a member's name is longer than {_MAX_NAME} characters")
    return name


def _json(content: bytes, what: str) -> Any:
    try:
        # Ambiguity matters in some objects only: see the callers.
        return strict_json.loads(content, allow_ambiguous=True)
    except ValueError as error:
        raise ArchiveError(f"{what} is not valid JSON") from error
