# SPDX-License-Identifier: Apache-2.0
"""A layer of an image while it flows: its digest, and whether it is safe to unpack."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator

from docker_engine.archive import tar
from docker_engine.archive.errors import ArchiveError

_STEP = 256 * 1024

# What engines look for at the start of a layer, before they take it for a tar.
_COMPRESSED = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}


class Layer:
    """A layer as it flows: its digest, and whether it is safe to unpack.

    :param name: of its member in the new archive
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.diff_id = ""
        self._sha256 = hashlib.sha256()
        self._walk = tar.Walk()
        self._gunzip: _Gunzip | None = None
        self._started = False

    @staticmethod
    def begins(start: bytes | memoryview) -> bool:
        """Whether a member that starts so is a layer; 512 bytes, if it has them."""
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

    def feed(self, piece: memoryview) -> int:
        """Take the next piece; return what it expanded to, in bytes."""
        if not self._started:
            self._started = True
            if compression := compression_of(piece):
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


def compression_of(start: bytes | memoryview) -> str | None:
    for name, magic in _COMPRESSED.items():
        if magic.match(start):
            return name
    return None
