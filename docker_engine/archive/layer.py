# SPDX-License-Identifier: Apache-2.0
"""One layer of an image as it streams."""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator

from docker_engine.archive import tar
from docker_engine.archive.errors import ArchiveError

_STEP = 256 * 1024

# Engines look for these at the start of a layer before they try to read a tar.
_COMPRESSED = {
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"),
}


class Layer:
    """A layer as it streams: computes its digest, checks that it is safe to unpack.

    :ivar name: of its member in the new archive
    :ivar diff_id: after :meth:`close`, digest of the expanded layer
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

    def feed(self, piece: memoryview) -> int:
        """Process the next piece and return its expanded size in bytes.

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
                self._gunzip = _Gunzip()
        pieces = self._gunzip.feed(piece) if self._gunzip else [piece]
        return sum(self._feed_expanded(expanded) for expanded in pieces)

    def _feed_expanded(self, data: bytes | memoryview) -> int:
        self._sha256.update(data)
        for _ in self._walk.feed(data):
            pass
        return len(data)

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
