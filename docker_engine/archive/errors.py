# SPDX-License-Identifier: Apache-2.0
"""The errors for an archive that cannot be loaded."""

from __future__ import annotations

from docker_engine.printable import printable


class ArchiveError(Exception):
    """The archive cannot be loaded.

    The message says why without naming the archive: callers put its name in front.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class ImageTooLarge(ArchiveError):
    """The image would take more disk than it may.

    :ivar size: bytes that it takes at least; the rest has not been read
    """

    def __init__(self, size: int) -> None:
        super().__init__(f"unpacked, the image takes more than {size} bytes of disk")
        self.size = size
