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
import re
import tarfile
import zlib
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

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

_BLOCK = tarfile.BLOCKSIZE
_ZEROS = bytes(_BLOCK)
_MANIFEST = "manifest.json"
_CONFIG = "config.json"
_MAX_NAME = 255
# As in Go's archive/tar: longer extended headers are an error there.
_MAX_EXTENDED = 1024 * 1024
_STEP = 256 * 1024

_FILE = b"0\0"
_DIRECTORY = b"5"
_SYMLINK = b"2"
_SPARSE = b"S"
_GLOBAL = b"g"
_EXTENDED = b"xLK"
_LONG = {b"L": "name", b"K": "link"}
_PAX = {b"path": "name", b"linkpath": "link", b"size": "size"}
# Links, devices, directories, FIFOs: Go takes none to have content.
_EMPTY = b"123456"

# An octal number as archive/tar and this module read it alike.
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_SIZE = re.compile(rb"[0-9]{1,18}")
_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

# What engines look for at the start of a layer, before they take it for a tar.
_COMPRESSED = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}


class ArchiveError(Exception):
    """The archive is not a loadable one; the message is a sentence on why."""


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
        self._members: dict[str, _Layer | bytes | str | None] = {}
        #: Once iterated: sha256 digest of the configuration, the image's id
        self.image_id = ""
        #: Once iterated: sha256 digests of the expanded layers, lowest first
        self.diff_ids: list[str] = []

    def __iter__(self) -> Iterator[bytes]:
        # Takes members one by one: a member's payload ends where its next is.
        events = self._events()
        for header in events:
            assert isinstance(header, _Header)
            yield from self._member(header, iter(events.__next__, None))
        config, self._layer_names = self._check()
        yield from _file(_CONFIG, config)
        yield from self._new_manifest(self._tag)
        yield _ZEROS * 2

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
        return _file(_MANIFEST, json.dumps([manifest]).encode())

    def _events(self) -> Iterator[_Event]:
        walk = _Walk()
        for chunk in self._chunks:
            if not self._received:
                _check_start(chunk)
            self._received += len(chunk)
            yield from walk.feed(chunk)
        if not self._received:
            raise ArchiveError("it is empty")
        if self._received < _BLOCK:
            raise ArchiveError("it is not a tar archive")
        walk.close()
        if not walk.ended:
            raise ArchiveError("it is cut short: it has no end mark")

    # A member

    def _member(self, header: _Header, payload: Iterator[Any]) -> Iterator[bytes]:
        start = next(payload, b"")
        pieces = itertools.chain([start], payload)
        name = _name(header.name)
        if header.kind in _FILE:
            self._add(name, None)
            if name != _MANIFEST and _Layer.begins(start):
                yield from self._layer(name, header.size, pieces)
            else:
                self._keep(name, header.size, pieces)
        elif header.kind == _SYMLINK:
            # For a layer that an image has twice, the older layout has a link.
            place = posixpath.dirname(header.name)
            self._add(name, _name(posixpath.join(place, header.link)))
        elif header.kind not in (_DIRECTORY, _GLOBAL):
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
        layer = _Layer(f"{self._written}.tar")
        yield _header(layer.name, size)
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
        yield _padding(size)
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
        rootfs = config.get("rootfs") if isinstance(config, _Object) else None
        if not isinstance(rootfs, _Object) or config.ambiguous or rootfs.ambiguous:
            raise ArchiveError("its configuration is not an image's")
        if config.get("os") != "linux":
            raise ArchiveError(f"it is for {_short(config.get('os'))}, not linux")
        if self._architecture not in (None, config.get("architecture")):
            raise ArchiveError(
                f"it is for {_short(config.get('architecture'))} machines, and "
                f"this host is {self._architecture}"
            )
        diff_ids = rootfs.get("diff_ids")
        if (
            rootfs.get("type") != "layers"
            or not isinstance(diff_ids, list)
            or not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in diff_ids)
        ):
            raise ArchiveError("its configuration does not name its layers")
        if not diff_ids:
            raise ArchiveError("its image has no layer, so nothing to run")
        self.diff_ids = diff_ids
        return content

    def _layers(self, names: Any) -> list[_Layer]:
        if not isinstance(names, list):
            raise ArchiveError(f"its {_MANIFEST} does not name its layers")
        layers = []
        for name in names:
            layer = self._named(name)
            if isinstance(layer, str):
                layer = self._members.get(layer)
            if not isinstance(layer, _Layer):
                raise ArchiveError(
                    f"its layer {_short(name)} is missing, or is not a tar archive"
                )
            layers.append(layer)
        return layers

    def _named(self, name: Any) -> _Layer | bytes | str | None:
        if not isinstance(name, str):
            return None
        return self._members.get(posixpath.normpath(name))


class _Layer:
    """A layer as it flows: its digest, and whether it is safe to unpack.

    :param name: of its member in the new archive
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.diff_id = ""
        self._sha256 = hashlib.sha256()
        self._walk = _Walk()
        self._gunzip: _Gunzip | None = None
        self._started = False

    @staticmethod
    def begins(start: bytes | memoryview) -> bool:
        """Whether a member that starts so is a layer; 512 bytes, if it has them."""
        if _compression(start):
            return True
        block = bytes(start[:_BLOCK])
        if block == _ZEROS:
            return True
        try:
            _parse(block)
        except ArchiveError:
            return False
        return True

    def feed(self, piece: memoryview) -> int:
        """Take the next piece; return what it expanded to, in bytes."""
        if not self._started:
            self._started = True
            if compression := _compression(piece):
                if compression != "gzip":
                    raise ArchiveError(
                        f"it is compressed with {compression}; save the image with "
                        "layers that are not compressed, or with gzip"
                    )
                self._gunzip = _Gunzip()
        pieces = self._gunzip.feed(piece) if self._gunzip else [piece]
        return sum(self._take(expanded) for expanded in pieces)

    def _take(self, data: bytes | memoryview) -> int:
        self._sha256.update(data)
        for _ in self._walk.feed(data):
            pass
        return len(data)

    def close(self) -> None:
        if self._gunzip:
            self._gunzip.close()
        self._walk.close()
        self.diff_id = f"sha256:{self._sha256.hexdigest()}"


@contextlib.contextmanager
def _about(layer: str) -> Iterator[None]:
    """Say in the message of an error that it is about a layer."""
    try:
        yield
    except ArchiveError as error:
        raise ArchiveError(f"its layer {_short(layer)}: {error}") from error


class _Gunzip:
    """Expands gzip as it flows, a bounded step at a time."""

    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        rest = bytes(data)
        full = False
        while rest or full:
            if self._stream.eof:
                # One gzip member may follow another.
                self._stream = zlib.decompressobj(wbits=31)
            try:
                piece = self._stream.decompress(rest, _STEP)
            except zlib.error as error:
                raise ArchiveError(f"its gzip data is broken: {error}") from error
            rest = self._stream.unused_data or self._stream.unconsumed_tail
            full = len(piece) == _STEP and not self._stream.eof
            yield piece

    def close(self) -> None:
        if not self._stream.eof:
            raise ArchiveError("its gzip data is cut short")


class _Header(NamedTuple):
    """What a member of a tar is."""

    name: bytes
    kind: bytes
    size: int
    link: bytes


# A member's header, then its content in pieces, the first of which has at least
# a block if the member has, then None.
_Event = _Header | memoryview | None


class _Walk:
    """Follows a tar as it flows, with its extended headers.

    Strict: what it takes for a member, Go's ``archive/tar`` takes for the same.
    """

    def __init__(self) -> None:
        self._carried = b""
        self._left = 0
        self._inside = False
        # The extended header that is being read, if one is, and what those
        # before the next member said about it, in PAX's and in GNU's way.
        self._special: _Header | None = None
        self._body = bytearray()
        self._pax: dict[str, Any] = {}
        self._gnu: dict[str, Any] = {}
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[_Event]:
        # Headers and contents start at whole blocks, so in whole blocks none is
        # torn, and a content's padding comes with the last of it.
        data = self._carried + data if self._carried else data
        whole = len(data) // _BLOCK * _BLOCK
        rest = memoryview(data)[:whole]
        self._carried = bytes(data[whole:])
        while rest:
            if self.ended:
                self._check_zeros(rest)
                return
            if not self._inside:
                yield from self._begin(bytes(rest[:_BLOCK]))
                rest = rest[_BLOCK:]
            else:
                piece = rest[: self._left]
                rest = rest[-(-len(piece) // _BLOCK) * _BLOCK :]
                self._left -= len(piece)
                if self._special:
                    self._body += piece
                else:
                    yield piece
            if self._inside and not self._left:
                self._inside = False
                if self._special:
                    self._extend(self._special, bytes(self._body))
                    self._special = None
                else:
                    yield None

    def close(self) -> None:
        if self._inside or self._special or (self._carried and not self.ended):
            raise ArchiveError("it is cut short")
        self._check_zeros(self._carried)

    def _check_zeros(self, data: bytes | memoryview) -> None:
        if bytes(data).strip(b"\0"):
            raise ArchiveError("it has data after its end")

    def _begin(self, block: bytes) -> Iterator[_Header]:
        if block == _ZEROS:
            self.ended = True
            return
        header = _parse(block)
        if header.kind in _EXTENDED:
            if header.size > _MAX_EXTENDED:
                raise ArchiveError("it has an oversized extended header")
            self._special = header
            self._body.clear()
        else:
            if header.kind != _GLOBAL:
                told = self._pax | {k: v for k, v in self._gnu.items() if v}
                header = header._replace(**told)
            self._pax, self._gnu = {}, {}
            if header.kind == _SPARSE:
                raise ArchiveError("it has a sparse file")
            if header.kind in _FILE and not header.name.rpartition(b"/")[2]:
                # So did old tars write directories.
                header = header._replace(kind=_DIRECTORY)
            if header.size and header.kind in _EMPTY:
                raise ArchiveError("it has a link, directory or device with content")
            yield header
        self._inside = True
        self._left = header.size

    def _extend(self, header: _Header, body: bytes) -> None:
        if header.kind in _LONG:
            self._gnu[_LONG[header.kind]] = _text(body)
            return
        # The last header and the last record of a key count, an empty one says
        # nothing, and GNU's long name, if there is one, goes before PAX's.
        records = dict(_records(body))
        if any(key.startswith(b"GNU.sparse.") for key in records):
            raise ArchiveError("it has a sparse file")
        self._pax = {
            field: records[key] for key, field in _PAX.items() if records.get(key)
        }
        if size := self._pax.get("size"):
            if not _SIZE.fullmatch(size):
                raise ArchiveError("it has a malformed size")
            self._pax["size"] = int(size)


class _Object(dict[str, Any]):
    """A JSON object that knows whether its keys may be taken for one another."""

    __slots__ = ("ambiguous",)  # A hostile document has very many.

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.ambiguous = len({key.casefold() for key, _ in pairs}) < len(pairs)


def _check_start(chunk: bytes) -> None:
    """Say what was uploaded instead, when it is one of the usual mistakes."""
    if compression := _compression(chunk):
        raise ArchiveError(
            f"it is compressed with {compression}: upload the archive uncompressed"
        )
    if chunk.startswith(b"QFI\xfb"):
        raise ArchiveError(
            "it is a qcow2 disk, not an archive from docker save: its "
            "container_format is not docker"
        )


def _compression(start: bytes | memoryview) -> str | None:
    for name, magic in _COMPRESSED.items():
        if magic.match(start):
            return name
    return None


def _parse(block: bytes) -> _Header:
    """Read one block as the header of a member.

    :raises ArchiveError: when it is not one, or one that may be read in two ways
    """
    if len(block) < _BLOCK:
        raise ArchiveError("it is not a tar archive")
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) != checksum:
        raise ArchiveError("it is not a tar archive, or a broken one")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    size = _number(block[124:136])
    return _Header(name, block[156:157], size, _text(block[157:257]))


def _number(field: bytes) -> int:
    # Go's and GNU's form for large numbers; a further bit is the sign.
    if field[0] == 0x80 and not any(field[1:5]):
        return int.from_bytes(field[5:])
    if not (octal := _OCTAL.fullmatch(field)):
        raise ArchiveError("it is not a tar archive, or a broken one")
    return int(octal[1] or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read the records of an extended header: ``length key=value newline``."""
    at = 0
    while at < len(body):
        length = _LENGTH.match(body, at)
        if not length or (end := at + int(length[1])) > len(body):
            raise ArchiveError("it has a malformed extended header")
        key, equals, value = body[length.end() : end].partition(b"=")
        if not key or not equals or not value.endswith(b"\n"):
            raise ArchiveError("it has a malformed extended header")
        yield key, value[:-1]
        at = end


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
        return json.loads(content.decode(), object_pairs_hook=_Object)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"its {what} is not JSON") from error


def _short(value: Any) -> str:
    return repr(value)[:100]


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content))
    yield content
    yield _padding(len(content))
