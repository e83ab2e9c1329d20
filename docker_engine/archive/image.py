# SPDX-License-Identifier: Apache-2.0
"""Check a ``docker save`` archive while it flows, and write it anew.

An uploaded archive is a tenant's word. Nothing of it reaches the engine but the
bytes of layers and of one configuration, in a new archive with names of ours:
the tenant's names of members, tags and annotations end here. What an engine
needs first, the manifest and the configuration, is sent last, when everything
has been read and has been found right: an engine that was sent all but these
has nothing to load.

Three things an engine would let pass are looked at on the way:

- *Whose layers these are.* An engine that has a layer with the digest which a
  configuration names takes that one and never reads the archive's. A tenant who
  knows the digests of another's private image would have its content. Here each
  layer is read and must have its digest.
- *How much the layers expand.* A layer may be compressed with gzip, and may
  hold sparse files. The first is measured, the second refused.
- *What a key says.* Go, in which engines are written, takes ``"RootFS"`` for
  ``"rootfs"`` and the last of two such keys, so a configuration with both would
  mean one thing here and another there. It is refused, and so is each tar
  header that Go's ``archive/tar`` might read in another way than this module.

The archive's size is unbounded; memory used is not (see ``MAX_JSON``).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import posixpath
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from docker_engine import strict_json
from docker_engine.archive import tar
from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.layer import Layer
from docker_engine.archive.layer import compression_of
from docker_engine.reference import DIGEST
from docker_engine.strict_json import Object
from docker_engine.strict_json import short

# Bytes of manifest.json and of each configuration, and of all that is kept of
# them until the end of the archive. Real ones have some ten thousand.
MAX_JSON = 1024 * 1024

MAX_KEPT = 4 * MAX_JSON

# Members of an archive. An image has 127 layers at most, and the older layout
# four members for each.
MAX_MEMBERS = 4096

# Bytes that compressed layers may expand to: so many times the archive's own,
# once past an allowance for small images. Container images compress by 2 to 5;
# gzip can by 1000, and an upload's quota would mean nothing on the host's disk.
# The bound is on the image, not on the root disk of the server that happens to
# boot it first, so that an image is right or wrong whoever asks. Layers that
# are not compressed need no bound: they take what Glance has counted.
MAX_EXPANSION = 16

EXPANSION_ALLOWANCE = 64 * 1024 * 1024

_MANIFEST = "manifest.json"

_CONFIG = "config.json"

_MAX_NAME = 255


class ImageArchive:
    """One image's archive: iterate over it for the archive to load.

    Iterating reads ``chunks`` to their end before the last chunks, which make
    the archive loadable, are given. It can be done once.

    :param chunks: the uploaded archive; an exception that they raise passes
    :param tag: what the image is called in the new archive, ``name:tag``; nothing
        when it is empty
    :param architecture: what the image must be for, as Go names it
        (``amd64``); None for any
    :raises ArchiveError: while iterating
    """

    def __init__(
        self, chunks: Iterable[bytes], tag: str, architecture: str | None = None
    ) -> None:
        self._chunks = chunks
        self._tag = tag
        self._architecture = architecture
        self._received = 0
        self._expanded = 0
        self._kept = 0
        self._written = 0
        self._layer_names: list[str] = []
        # What members were: a layer, JSON that was kept, a link's target, or
        # None for what is of no use. Their names are keys here, and no more.
        self._members: dict[str, Layer | bytes | str | None] = {}
        #: Once iterated: sha256 digest of the configuration, the image's id
        self.image_id = ""
        #: Once iterated: sha256 digests of the expanded layers, lowest first
        self.diff_ids: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        # Takes members one by one: a member's payload ends where its next is.
        events = self._events()
        for header in events:
            assert isinstance(header, tar.Header)
            yield from self._member(header, iter(events.__next__, None))
        config, self._layer_names = self._check()
        yield from tar.file(_CONFIG, config)
        yield from self._new_manifest(self._tag)
        yield tar.ZEROS * 2

    def growth(self, tag: str) -> int:
        """Return by how many bytes another tag would make the archive longer.

        To be asked once it has been iterated over.
        """
        own, other = (
            sum(map(len, self._new_manifest(name))) for name in (self._tag, tag)
        )
        return other - own

    def _new_manifest(self, tag: str) -> Iterator[bytes]:
        manifest = {
            "Config": _CONFIG,
            "RepoTags": [tag] if tag else None,
            "Layers": self._layer_names,
        }
        return tar.file(_MANIFEST, json.dumps([manifest]).encode())

    def _events(self) -> Iterator[tar.Event]:
        walk = tar.Walk()
        for chunk in self._chunks:
            if not self._received:
                _check_start(chunk)
            self._received += len(chunk)
            yield from walk.feed(chunk)
        if not self._received:
            raise ArchiveError("it is empty")
        if self._received < tar.BLOCK:
            raise ArchiveError("it is not a tar archive")
        walk.close()
        if not walk.ended:
            raise ArchiveError("it is cut short: it has no end mark")

    # A member

    def _member(self, header: tar.Header, payload: Iterator[Any]) -> Iterator[bytes]:
        start = next(payload, b"")
        pieces = itertools.chain([start], payload)
        name = _name(header.name)
        if header.kind in tar.FILE:
            self._add(name, None)
            if name != _MANIFEST and Layer.begins(start):
                yield from self._layer(name, header.size, pieces)
            else:
                self._keep(name, header.size, pieces)
        elif header.kind == tar.SYMLINK:
            # For a layer that an image has twice, the older layout has a link.
            place = posixpath.dirname(header.name)
            self._add(name, _name(posixpath.join(place, header.link)))
        elif header.kind not in (tar.DIRECTORY, tar.GLOBAL):
            raise ArchiveError(
                f"its member {name!r} is neither a file nor a directory: it is not "
                "an archive from docker save (docker export saves no image)"
            )
        for _ in pieces:
            pass

    def _add(self, name: str, member: str | None) -> None:
        if name in self._members:
            raise ArchiveError(f"it has two members {name!r}")
        if len(self._members) == MAX_MEMBERS:
            raise ArchiveError(f"it has more than {MAX_MEMBERS} members")
        self._members[name] = member

    def _layer(self, name: str, size: int, pieces: Iterator[Any]) -> Iterator[bytes]:
        # By its place among the layers alone, so that an image's archive is as
        # long whichever engine has written it.
        self._written += 1
        layer = Layer(f"{self._written}.tar")
        yield tar.header(layer.name, size)
        for piece in pieces:
            with _about(name):
                self._expanded += layer.feed(piece)
            allowed = MAX_EXPANSION * self._received + EXPANSION_ALLOWANCE
            if self._expanded > allowed:
                raise ArchiveError(
                    f"its compressed layers expand to more than {MAX_EXPANSION} "
                    "times its size; save it with uncompressed layers"
                )
            yield bytes(piece)
        yield tar.padding(size)
        with _about(name):
            layer.close()
        self._members[name] = layer

    def _keep(self, name: str, size: int, pieces: Iterator[Any]) -> None:
        """Keep what the manifest may name as the configuration, and itself."""
        if size > MAX_JSON:
            if name == _MANIFEST:
                raise ArchiveError(f"its {_MANIFEST} is larger than {MAX_JSON} bytes")
            return
        content = b"".join(pieces)
        if name == _MANIFEST or b'"rootfs"' in content:
            self._kept += size
            if self._kept > MAX_KEPT:
                raise ArchiveError("it has too many image configurations")
            self._members[name] = content

    # The whole

    def _check(self) -> tuple[bytes, list[str]]:
        """Return the configuration, and the names we gave to its layers."""
        manifest = self._manifest()
        config = self._config(manifest.get("Config"))
        layers = self._layers(manifest.get("Layers"))
        if [layer.diff_id for layer in layers] != self.diff_ids:
            raise ArchiveError(
                "its layers are not those that its configuration names: their "
                "digests differ"
            )
        self.image_id = f"sha256:{hashlib.sha256(config).hexdigest()}"
        return config, [layer.name for layer in layers]

    def _manifest(self) -> dict[str, Any]:
        content = self._members.get(_MANIFEST)
        if not isinstance(content, bytes):
            if "index.json" in self._members:
                raise ArchiveError(
                    f"it is an OCI layout without {_MANIFEST}: convert it with "
                    "skopeo copy oci-archive:OLD docker-archive:NEW"
                )
            raise ArchiveError(
                f"it has no {_MANIFEST}: it is not an archive from docker save"
            )
        manifest = _json(content, _MANIFEST)
        if not isinstance(manifest, list) or not manifest:
            raise ArchiveError(f"its {_MANIFEST} names no image")
        if len(manifest) > 1:
            raise ArchiveError(
                f"it has {len(manifest)} images: docker save one image alone"
            )
        if not isinstance(manifest[0], dict):
            raise ArchiveError(f"its {_MANIFEST} names no image")
        return manifest[0]

    def _config(self, name: Any) -> bytes:
        content = self._named(name)
        if not isinstance(content, bytes):
            raise ArchiveError(
                f"its {_MANIFEST} names a configuration that it does not have"
            )
        config = _json(content, "configuration")
        rootfs = config.get("rootfs") if isinstance(config, Object) else None
        if not isinstance(rootfs, Object) or config.ambiguous or rootfs.ambiguous:
            raise ArchiveError("its configuration is not an image's")
        if config.get("os") != "linux":
            raise ArchiveError(f"it is for {short(config.get('os'))}, not linux")
        if self._architecture not in (None, config.get("architecture")):
            raise ArchiveError(
                f"it is for {short(config.get('architecture'))} machines, and "
                f"this host is {self._architecture}"
            )
        diff_ids = rootfs.get("diff_ids")
        if (
            rootfs.get("type") != "layers"
            or not isinstance(diff_ids, list)
            or not all(isinstance(d, str) and DIGEST.fullmatch(d) for d in diff_ids)
        ):
            raise ArchiveError("its configuration does not name its layers")
        if not diff_ids:
            raise ArchiveError("its image has no layer, so nothing to run")
        self.diff_ids = diff_ids
        return content

    def _layers(self, names: Any) -> list[Layer]:
        if not isinstance(names, list):
            raise ArchiveError(f"its {_MANIFEST} does not name its layers")
        layers = []
        for name in names:
            layer = self._named(name)
            if isinstance(layer, str):
                layer = self._members.get(layer)
            if not isinstance(layer, Layer):
                raise ArchiveError(
                    f"its layer {short(name)} is missing, or is not a tar archive"
                )
            layers.append(layer)
        return layers

    def _named(self, name: Any) -> Layer | bytes | str | None:
        if not isinstance(name, str):
            return None
        return self._members.get(posixpath.normpath(name))


@contextlib.contextmanager
def _about(layer: str) -> Iterator[None]:
    """Say in the message of an error that it is about a layer."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"its layer {short(layer)}: {error}") from error


def _check_start(chunk: bytes) -> None:
    """Say what was uploaded instead, when it is one of the usual mistakes."""
    if compression := compression_of(chunk):
        raise ArchiveError(
            f"it is compressed with {compression}: upload the archive uncompressed"
        )
    if chunk.startswith(b"QFI\xfb"):
        raise ArchiveError(
            "it is a qcow2 disk, not an archive from docker save: its "
            "container_format is not docker"
        )


def _name(raw: bytes) -> str:
    """Return a member's name in the one form that it can be looked up by."""
    try:
        name = posixpath.normpath(raw.decode())
    except UnicodeDecodeError as error:
        raise ArchiveError("it has a member whose name is not UTF-8") from error
    if len(name) > _MAX_NAME:
        raise ArchiveError("it has a member with too long a name")
    return name


def _json(content: bytes, what: str) -> Any:
    try:
        # Ambiguity matters in some objects only: see the callers.
        return strict_json.loads(content, allow_ambiguous=True)
    except ValueError as error:
        raise ArchiveError(f"its {what} is not JSON") from error
