# SPDX-License-Identifier: Apache-2.0
"""What an archive costs: processor time here, and space on the engine's disk.

Both are counted while the archive streams and bounded before the engine unpacks
anything. Processor time is bounded by the bytes received, so that a hostile archive
costs hardly more than an honest one of the same length. The space is bounded by the
caller, who knows the server's root disk and the host's.
"""

from __future__ import annotations

from collections.abc import Callable

from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.errors import ImageTooLarge

# Layers may expand to this many times the bytes received, plus an allowance for small
# images. Container images compress by a factor of 2 to 5, but gzip can reach 1000,
# which would make an upload quota meaningless for the host's disk. A layer that an
# image uses several times is unpacked as often, and counts as often.
MAX_EXPANSION = 16
EXPANSION_ALLOWANCE = 32 * 1024 * 1024

# Steps are what costs Python some microseconds: a tar header, each 64 bytes of an
# extended one, a gzip member. There may be one for so many bytes received, plus an
# allowance for small images. In layers of real directory trees, compressed with
# gzip -9, each step takes 75 bytes (zoneinfo, with three time stamps in PAX format) or
# more.
BYTES_PER_STEP = 32
STEP_ALLOWANCE = 10_000
EXTENDED_STEP = 64

# A file takes whole blocks of the engine's disk; every entry of a layer takes an inode,
# its place in a directory, and the block of a directory or of extended attributes. The
# headers of a layer are counted as well: the engine keeps them.
DISK_BLOCK = 4096
ENTRY_COST = 4096

# The largest images have some hundred thousand.
MAX_ENTRIES = 1024 * 1024

# Growth is reported in portions of so many bytes.
_PORTION = 4 * 1024 * 1024


class Meter:
    """Counts what one archive costs.

    :param max_unpacked: bytes of disk that the image may take; None for no limit
    :param on_growth: called with the bytes of disk and the inodes that the image will
        take beyond those of earlier calls; what it raises is not caught
    """

    def __init__(
        self,
        max_unpacked: int | None = None,
        on_growth: Callable[[int, int], None] | None = None,
    ) -> None:
        self._max_unpacked = max_unpacked
        self._on_growth = on_growth
        self._steps = 0
        self._expanded = 0
        self._reported = (0, 0)
        #: Bytes of the archive so far
        self.received = 0
        #: Bytes of disk and inodes that the layers so far will take
        self.unpacked = 0
        self.entries = 0

    def step(self, count: int = 1) -> None:
        """Count some microseconds of processor time.

        :raises ArchiveError: if there are too many for the bytes received
        """
        self._steps += count
        if self._steps > self.received // BYTES_PER_STEP + STEP_ALLOWANCE:
            raise ArchiveError(
                "too many tar headers or gzip members for the size of the archive; "
                "save the image with uncompressed layers"
            )

    def expand(self, size: int) -> None:
        """Count bytes of a layer, after decompression.

        :raises ArchiveError: if there are too many for the bytes received
        :raises ImageTooLarge: if there are too many for the disk
        """
        self._expanded += size
        if self._expanded > MAX_EXPANSION * self.received + EXPANSION_ALLOWANCE:
            raise ArchiveError(
                f"layers expand to more than {MAX_EXPANSION} times the size of the "
                "archive; save the image with uncompressed layers"
            )
        self.unpack(size, 0)

    def unpack(self, size: int, entries: int) -> None:
        """Count disk that the image will take.

        :param size: in bytes
        :raises ArchiveError: if there are too many entries
        :raises ImageTooLarge: if there are too many bytes
        """
        self.unpacked += size
        self.entries += entries
        if self.entries > MAX_ENTRIES:
            raise ArchiveError(f"layers have more than {MAX_ENTRIES} files")
        if self._max_unpacked is not None and self.unpacked > self._max_unpacked:
            raise ImageTooLarge(self.unpacked)
        if self.unpacked - self._reported[0] >= _PORTION:
            self.report()

    def report(self) -> None:
        """Report the growth since the last report."""
        size, entries = self._reported
        self._reported = self.unpacked, self.entries
        if self._on_growth:
            self._on_growth(self.unpacked - size, self.entries - entries)
