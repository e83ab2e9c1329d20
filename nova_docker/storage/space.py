# SPDX-License-Identifier: Apache-2.0
"""Free space of the engine's disk, promised to each job that will fill some of it.

Image loads and commits look at the free space before they write. Each of two jobs that
look at the same time could fill the disk with the other. Here they take their share
from one ledger, which counts what has been promised and is not yet released.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from collections.abc import Iterator

from nova import conf as nova_conf
from oslo_utils import units

CONF = nova_conf.CONF

#: At most so many bytes of the disk, and at most this share of the disk and of its
#: inodes, stay free for the host. Nova's ``reserved_host_disk_mb`` can raise it.
RESERVE = units.Gi
RESERVE_SHARE = 1 / 20


class NoSpace(Exception):
    """A job would leave too little space. The message says how much there is."""


class DiskSpace:
    """The space of one file system. Several threads may use it at the same time.

    :param path: returns a directory of the file system. It is called for each look at
        the disk, so that it may fail or be unknown before the first job.
    """

    def __init__(self, path: Callable[[], str]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._reservations: list[Reservation] = []

    @contextlib.contextmanager
    def reserve(self, size: int = 0, files: int = 0) -> Iterator[Reservation]:
        """Promise space to a job for the duration of the block.

        A job that does not know its size in advance reserves little and calls
        :meth:`Reservation.grow`. What it has written counts twice until the block
        ends, in the reservation and on the disk: others wait rather than fail halfway.

        :param size: bytes that it will write
        :param files: inodes that it will use
        :raises NoSpace: if that is more than :meth:`available`
        :raises OSError: if the file system cannot be examined
        """
        reservation = Reservation(self)
        reservation.grow(size, files)
        try:
            yield reservation
        finally:
            with self._lock:
                self._reservations.remove(reservation)

    def available(self) -> tuple[int, float]:
        """Return the bytes and the inodes that nobody uses and nobody was promised.

        They may be negative. A file system without a fixed number of inodes, as btrfs
        is, has infinitely many.

        :raises OSError: if the file system cannot be examined
        """
        with self._lock:
            return self._available()

    def is_short(self) -> bool:
        """Return whether less is free than the host needs, whatever was promised.

        :raises OSError: if the file system cannot be examined
        """
        size, files = self._free()
        return size < 0 or files < 0

    def free_files(self) -> float:
        """Return how many inodes are free beyond what the host needs.

        :raises OSError: if the file system cannot be examined
        """
        return self._free()[1]

    def _free(self) -> tuple[int, float]:
        found = os.statvfs(self._path())
        reserved = CONF.reserved_host_disk_mb * units.Mi
        size = found.f_bavail * found.f_frsize - max(
            reserved, kept(found.f_blocks * found.f_frsize)
        )
        files = float("inf")
        if found.f_files:
            files = found.f_favail - int(found.f_files * RESERVE_SHARE)
        return size, files

    def _available(self) -> tuple[int, float]:
        size, files = self._free()
        return (
            size - sum(other.size for other in self._reservations),
            files - sum(other.files for other in self._reservations),
        )

    def _grow(self, reservation: Reservation, size: int, files: int) -> None:
        with self._lock:
            free_size, free_files = self._available()
            if size > free_size:
                raise NoSpace(
                    f"{max(free_size, 0) // units.Mi} MiB of the engine's disk are "
                    "free, after what the host and other jobs need"
                )
            if files > free_files:
                raise NoSpace(
                    f"{max(int(free_files), 0)} inodes of the engine's disk are free, "
                    "after what the host and other jobs need"
                )
            reservation.size += size
            reservation.files += files
            if reservation not in self._reservations:
                self._reservations.append(reservation)


class Reservation:
    """What a job has been promised.

    :ivar size: bytes
    :ivar files: inodes
    """

    def __init__(self, space: DiskSpace) -> None:
        self._space = space
        self.size = 0
        self.files = 0

    def grow(self, size: int = 0, files: int = 0) -> None:
        """Promise more to the job; if that fails, it keeps what it has.

        :raises NoSpace: if that is more than is available
        :raises OSError: if the file system cannot be examined
        """
        self._space._grow(self, size, files)


def kept(total: int) -> int:
    """Return how many bytes of a disk with ``total`` bytes stay free for the host."""
    return min(RESERVE, int(total * RESERVE_SHARE))
