# SPDX-License-Identifier: Apache-2.0
"""Tar archives: a strict reader for streams, and a writer."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.meter import EXTENDED_STEP
from docker_engine.archive.meter import Meter

BLOCK = tarfile.BLOCKSIZE
ZEROS = bytes(BLOCK)
#: End-of-archive marker
END = ZEROS * 2

# Kinds of members (the header's "typeflag")
FILE = b"0\0"
SYMLINK = b"2"
DIRECTORY = b"5"
GLOBAL = b"g"
_SPARSE = b"S"
_EXTENDED = b"xLK"
# Links, devices, directories and FIFOs: Go takes them to have no content.
_EMPTY = b"123456"

# Fields that an extended header may set, in the GNU and in the PAX format.
_LONG = {b"L": "name", b"K": "link"}
_PAX = {b"path": "name", b"linkpath": "link", b"size": "size"}

# Go's archive/tar rejects longer extended headers too.
_MAX_EXTENDED = 1024 * 1024

# An octal number that archive/tar and this module read alike.
_OCTAL = re.compile(rb" *([0-7]*)[ \0]*")
_SIZE = re.compile(rb"[0-9]{1,18}")
_LENGTH = re.compile(rb"([1-9][0-9]{0,6}) ")

_NOT_A_TAR = "not a tar archive, or a corrupt one"


class Header(NamedTuple):
    """The header of a member; ``size`` is in bytes."""

    name: bytes
    kind: bytes
    size: int
    link: bytes


# For each member: its header, its content in pieces, of which the first is at least a
# block long if the content is, and None.
Event = Header | memoryview | None


class Walk:
    """Parses a tar stream, including extended headers.

    Strict: any member that it accepts, Go's ``archive/tar`` reads in the same way.

    :param meter: counts the headers, of members or not
    :ivar ended: whether the end-of-archive marker has been read
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._carried = b""
        self._left = 0
        self._inside = False
        # The extended header that is being read, and the fields of the next member
        # that extended headers have set, in the PAX and in the GNU format.
        self._special: Header | None = None
        self._body = bytearray()
        self._pax: dict[str, Any] = {}
        self._gnu: dict[str, Any] = {}
        self.ended = False

    def feed(self, data: bytes | memoryview) -> Iterator[Event]:
        """Parse the next bytes of the stream.

        :raises ArchiveError: if they are malformed or ambiguous
        """
        # Headers and contents start on block boundaries. In whole blocks no header is
        # split, and the padding of a content comes with its last piece.
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
        """Check that the stream ends where a tar archive may end.

        :raises ArchiveError: if it does not
        """
        if self._inside or self._special or (self._carried and not self.ended):
            raise ArchiveError("truncated in the middle of a member")
        self._check_zeros(self._carried)

    def _check_zeros(self, data: bytes | memoryview) -> None:
        if bytes(data) != bytes(len(data)):
            raise ArchiveError("data after the end-of-archive marker")

    def _begin(self, block: bytes) -> Iterator[Header]:
        if block == ZEROS:
            self.ended = True
            return
        self._meter.step()
        header = parse(block)
        if header.kind in _EXTENDED:
            if header.size > _MAX_EXTENDED:
                raise ArchiveError("oversized extended header")
            self._meter.step(header.size // EXTENDED_STEP)
            self._special = header
            self._body.clear()
        else:
            if header.kind != GLOBAL:
                extended = self._pax | {k: v for k, v in self._gnu.items() if v}
                header = header._replace(**extended)
            self._pax, self._gnu = {}, {}
            if header.kind == _SPARSE:
                raise ArchiveError("contains a sparse file")
            if header.kind in FILE and not header.name.rpartition(b"/")[2]:
                # Old tars write directories in this way.
                header = header._replace(kind=DIRECTORY)
            if header.size and header.kind in _EMPTY:
                raise ArchiveError("contains a link, directory or device with content")
            yield header
        self._inside = True
        self._left = header.size

    def _extend(self, header: Header, body: bytes) -> None:
        if header.kind in _LONG:
            self._gnu[_LONG[header.kind]] = _text(body)
            return
        # The last header and the last record for a key win, an empty value is ignored,
        # and a GNU long name takes precedence over a PAX one.
        records = {}
        for key, value in _records(body):
            if key.startswith(b"GNU.sparse."):
                raise ArchiveError("contains a sparse file")
            if field := _PAX.get(key):
                records[field] = value
        self._pax = {field: value for field, value in records.items() if value}
        if size := self._pax.get("size"):
            if not _SIZE.fullmatch(size):
                raise ArchiveError("malformed size in an extended header")
            self._pax["size"] = int(size)


def parse(block: bytes) -> Header:
    """Read one block as the header of a member.

    :raises ArchiveError: if it is not one, or is ambiguous
    """
    if len(block) < BLOCK:
        raise ArchiveError("not a tar archive")
    checksum = _sum(block[:256]) + _sum(block[256:]) - sum(block[148:156])
    checksum += 8 * ord(" ")
    if _number(block[148:156]) != checksum:
        raise ArchiveError(_NOT_A_TAR)
    name = _text(block[:100])
    if block[257:263] == b"ustar\0" and (prefix := _text(block[345:500])):
        name = prefix + b"/" + name
    size = _number(block[124:136])
    return Header(name, block[156:157], size, _text(block[157:257]))


def _sum(data: bytes) -> int:
    """Return the sum of up to 256 bytes, ten times faster than ``sum``.

    The low half of Adler-32 is one more than the sum, modulo a larger prime.
    """
    return (zlib.adler32(data) & 0xFFFF) - 1


def _number(field: bytes) -> int:
    # The base-256 form that Go and GNU use for large numbers; negative ones and those
    # of more than 56 bits are rejected.
    if field[0] == 0x80 and not any(field[1:5]):
        return int.from_bytes(field[5:])
    if not (octal := _OCTAL.fullmatch(field)):
        raise ArchiveError(_NOT_A_TAR)
    return int(octal[1] or b"0", 8)


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Read the records of an extended header: ``length key=value newline``."""
    at = 0
    while at < len(body):
        length = _LENGTH.match(body, at)
        if not length or (end := at + int(length[1])) > len(body):
            raise ArchiveError("malformed extended header")
        key, equals, value = body[length.end() : end].partition(b"=")
        if not key or not equals or not value.endswith(b"\n"):
            raise ArchiveError("malformed extended header")
        yield key, value[:-1]
        at = end


def header(name: str, size: int) -> bytes:
    """Return the header of a file."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.GNU_FORMAT)


def padding(size: int) -> bytes:
    """Return what follows a content of ``size`` bytes to fill its last block."""
    return bytes(-size % BLOCK)


def file(name: str, content: bytes) -> Iterator[bytes]:
    """Yield a file: its header, then its content with padding."""
    yield header(name, len(content))
    yield content + padding(len(content))
