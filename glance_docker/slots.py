# SPDX-License-Identifier: Apache-2.0
"""A bound on the exports of an engine at the same time, over all processes of a host.

The engine writes each export to its disk before it sends the first byte.
"""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import pathlib
import tempfile
import threading
import time
from collections.abc import Iterator

# Seconds between two attempts to get a slot.
_INTERVAL = 0.2


class Busy(Exception):
    """All slots stayed taken for as long as the caller would wait."""


class Slot:
    """A lock on a file, which also ends with the process.

    May be used from several threads.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptors = [descriptor]

    def release(self) -> None:
        """Let others have the slot; does nothing the second time."""
        with contextlib.suppress(IndexError):
            # list.pop is atomic: two threads never close the same descriptor.
            os.close(self._descriptors.pop())


class Slots:
    """A number of slots. May be used from several threads.

    :param directory: where the lock files are; processes that name the same one share
        the slots. None or empty for slots of this object alone.
    :param name: of the engine
    :param count: the number of slots
    :param reserved: how many of them are left for others
    """

    def __init__(
        self, directory: str | None, name: str, count: int, reserved: int = 0
    ) -> None:
        if not directory:
            self._own = tempfile.TemporaryDirectory(prefix="docker-export-")
            directory = self._own.name
        self._files = [
            pathlib.Path(directory, f"docker-export-{name}-{number}.lock")
            for number in range(count)
        ][min(reserved, count - 1) :]

    @contextlib.contextmanager
    def taken(
        self, wait: float = math.inf, stopping: threading.Event | None = None
    ) -> Iterator[Slot]:
        """Hold a slot during the block.

        :param wait: seconds to wait until a slot is free
        :param stopping: ends the wait
        :raises Busy: when there is no free slot
        :raises OSError: when the lock files cannot be opened
        """
        deadline = time.monotonic() + wait
        stopping = stopping or threading.Event()
        while (slot := self._take()) is None:
            if time.monotonic() > deadline or stopping.wait(_INTERVAL):
                raise Busy(
                    f"{len(self._files)} exports of the engine's images are running"
                )
        try:
            yield slot
        finally:
            slot.release()

    def _take(self) -> Slot | None:
        return next(filter(None, map(_lock, self._files)), None)


def _lock(file: pathlib.Path) -> Slot | None:
    # Reading suffices for flock, and lets users who cannot write to the file share it.
    # The lock belongs to this open file: threads exclude each other, too.
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # The directory may be missing, too. A process that inherited a temporary one,
        # and has ended, has removed it.
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return Slot(descriptor)
