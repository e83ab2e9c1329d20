# SPDX-License-Identifier: Apache-2.0
"""One layer of an image as it streams."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator

from docker_engine.archive import tar
from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.meter import DISK_BLOCK
from docker_engine.archive.meter import ENTRY_COST
from docker_engine.archive.meter import Meter

_STEP = 256 * 1024

# Compressed bytes that are expanded at a time: zlib copies what follows a gzip member.
_SLICE = 16 * 1024

# PATH_MAX of Linux: an engine cannot create longer names or links.
_MAX_PATH = 4095

# Engines look for these at the start of a layer before they try to read a tar.
_COMPRESSED = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}


class Layer:
    """A layer as it streams: computes its digest, checks that it is safe to unpack.

    :param meter: counts what the layer costs
    :ivar name: of its member in the new archive
    :ivar diff_id: after :meth:`close`, digest of the expanded layer
    :ivar size: bytes, expanded
    :ivar unpacked: bytes of disk that it takes beyond ``size``
    :ivar entries: inodes that it takes
    """

    def __init__(self, name: str, meter: Meter) -> None:
        self.name = name
        self.diff_id = ""
        self.size = self.unpacked = self.entries = 0
        self._meter = meter
        self._sha256 = hashlib.sha256()
        self._walk = tar.Walk(meter)
        # Where the last entry was.
        self._directory = b""
        self._gunzip: _Gunzip | None = None
        self._started = False

    @staticmethod
    def begins(start: bytes | memoryview) -> bool:
        """Tell whether a member is a layer.

        :param start: its first 512 bytes, or all if it is shorter
        """
        if compression_of(start):
            return True
        block = bytes(start[: tar.BLOCK])
        if block == tar.ZEROS:
            return True
        try:
            tar.parse(block)
        except ArchiveError:
            return False
        return True

    def feed(self, piece: memoryview) -> None:
        """Process the next piece.

        :raises ArchiveError: if the layer is malformed or not safe to unpack
        """
        if not self._started:
            self._started = True
            if compression := compression_of(piece):
                if compression != "gzip":
                    raise ArchiveError(
                        f"compressed with {compression}; save the image with "
                        "uncompressed or gzip-compressed layers"
                    )
                self._gunzip = _Gunzip(self._meter)
        for expanded in self._gunzip.feed(piece) if self._gunzip else [piece]:
            self._feed_expanded(expanded)

    def _feed_expanded(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self._meter.expand(len(data))
        self._sha256.update(data)
        for event in self._walk.feed(data):
            if isinstance(event, tar.Header):
                self._count(event)

    def _count(self, header: tar.Header) -> None:
        if max(len(header.name), len(header.link)) > _MAX_PATH:
            raise ArchiveError(f"a name or link is longer than {_MAX_PATH} bytes")
        # An engine creates the parents of an entry that the layer does not list. Those
        # of the last entry exist; a walk over a tree has no others.
        name = header.name.lstrip(b"./").rstrip(b"/")
        parent = self._directory
        while parent and not name.startswith(parent + b"/"):
            parent = parent.rpartition(b"/")[0]
        entries = name.count(b"/", len(parent) + 1) + 1
        is_directory = header.kind == tar.DIRECTORY
        self._directory = name if is_directory else name.rpartition(b"/")[0]
        if entries > 1:
            self._meter.step(entries - 1)
        size = entries * ENTRY_COST + -header.size % DISK_BLOCK
        self.entries += entries
        self.unpacked += size
        self._meter.unpack(size, entries)

    def repeat(self) -> None:
        """Count the layer again, for each further time that the image uses it.

        :raises ArchiveError: if it takes too much
        """
        self._meter.expand(self.size)
        self._meter.unpack(self.unpacked, self.entries)

    def close(self) -> None:
        """Finish the digest.

        :raises ArchiveError: if the layer is truncated
        """
        if self._gunzip:
            self._gunzip.close()
        self._walk.close()
        self.diff_id = f"sha256:{self._sha256.hexdigest()}"


class _Gunzip:
    """Expands a gzip stream in steps of bounded size."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._stream = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes | memoryview) -> Iterator[bytes]:
        for start in range(0, len(data), _SLICE):
            yield from self._expanded(bytes(data[start : start + _SLICE]))

    def _expanded(self, rest: bytes) -> Iterator[bytes]:
        full = False
        while rest or full:
            if self._stream.eof:
                # One gzip member may follow another.
                self._meter.step()
                self._stream = zlib.decompressobj(wbits=31)
            try:
                piece = self._stream.decompress(rest, _STEP)
            except zlib.error as error:
                raise ArchiveError(f"corrupt gzip data: {error}") from error
            rest = self._stream.unused_data or self._stream.unconsumed_tail
            full = len(piece) == _STEP and not self._stream.eof
            yield piece

    def close(self) -> None:
        if not self._stream.eof:
            raise ArchiveError("truncated gzip data")


def compression_of(start: bytes | memoryview) -> str | None:
    """Return the name of the compression that data starts with, None for none."""
    for name, magic in _COMPRESSED.items():
        if magic.match(start):
            return name
    return None
