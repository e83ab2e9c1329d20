# SPDX-License-Identifier: Apache-2.0
"""Tar archives: read strictly while they flow, and written."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from docker_engine.archive.errors import ArchiveError

BLOCK = tarfile.BLOCKSIZE

ZEROS = bytes(BLOCK)

# As in Go's archive/tar: longer extended headers are an error there.
_MAX_EXTENDED = 1024 * 1024

FILE = b"0\0"

DIRECTORY = b"5"

SYMLINK = b"2"

_SPARSE = b"S"

GLOBAL = b"g"

_EXTENDED = b"xLK"

_LONG = {b"L": "name", b"K": "link"}

_PAX = {b"path": "name", b"linkpath": "link", b"size": "size"}

# Links, devices, directories, FIFOs: Go takes none to have content.
_EMPTY = b"123456"

# An octal number as archive/tar and this module read it alike.
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")

_SIZE = re.compile(rb"[0-9]{1,18}")

_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")


class Header(NamedTuple):
    """What a member of a tar is."""

    name: bytes
    kind: bytes
    size: int
    link: bytes


# A member's header, then its content in pieces, the first of which has at least
# a block if the member has, then None.
Event = Header | memoryview | None


class Walk:
    """Follows a tar as it flows, with its extended headers.

    Strict: what it takes for a member, Go's ``archive/tar`` takes for the same.
    """

    def __init__(self) -> None:
        self._carried = b""
        self._left = 0
        self._inside = False
        # The extended header that is being read, if one is, and what those
        # before the next member said about it, in PAX's and in GNU's way.
        self._special: Header | None = None
        self._body = bytearray()
        self._pax: dict[str, Any] = {}
        self._gnu: dict[str, Any] = {}
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[Event]:
        # Headers and contents start at whole blocks, so in whole blocks none is
        # torn, and a content's padding comes with the last of it.
        data = self._carried + data if self._carried else data
        whole = len(data) // BLOCK * BLOCK
        rest = memoryview(data)[:whole]
        self._carried = bytes(data[whole:])
        while rest:
            if self.ended:
                self._check_zeros(rest)
                return
            if not self._inside:
                yield from self._begin(bytes(rest[:BLOCK]))
                rest = rest[BLOCK:]
            else:
                piece = rest[: self._left]
                rest = rest[-(-len(piece) // BLOCK) * BLOCK :]
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

    def _begin(self, block: bytes) -> Iterator[Header]:
        if block == ZEROS:
            self.ended = True
            return
        header = parse(block)
        if header.kind in _EXTENDED:
            if header.size > _MAX_EXTENDED:
                raise ArchiveError("it has an oversized extended header")
            self._special = header
            self._body.clear()
        else:
            if header.kind != GLOBAL:
                told = self._pax | {k: v for k, v in self._gnu.items() if v}
                header = header._replace(**told)
            self._pax, self._gnu = {}, {}
            if header.kind == _SPARSE:
                raise ArchiveError("it has a sparse file")
            if header.kind in FILE and not header.name.rpartition(b"/")[2]:
                # So did old tars write directories.
                header = header._replace(kind=DIRECTORY)
            if header.size and header.kind in _EMPTY:
                raise ArchiveError("it has a link, directory or device with content")
            yield header
        self._inside = True
        self._left = header.size

    def _extend(self, header: Header, body: bytes) -> None:
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


def parse(block: bytes) -> Header:
    """Read one block as the header of a member.

    :raises ArchiveError: when it is not one, or one that may be read in two ways
    """
    if len(block) < BLOCK:
        raise ArchiveError("it is not a tar archive")
    checksum = sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if _number(block[148:156]) != checksum:
        raise ArchiveError("it is not a tar archive, or a broken one")
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    size = _number(block[124:136])
    return Header(name, block[156:157], size, _text(block[157:257]))


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


def header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    return bytes(-size % BLOCK)


def file(name: str, content: bytes) -> Iterator[bytes]:
    yield header(name, len(content))
    yield content
    yield padding(len(content))
