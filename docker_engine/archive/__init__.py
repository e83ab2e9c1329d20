# SPDX-License-Identifier: Apache-2.0
"""Image archives, as ``docker save`` writes and ``docker load`` reads them."""

from docker_engine.archive.errors import ArchiveError
from docker_engine.archive.errors import ImageTooLarge
from docker_engine.archive.image import ImageArchive

__all__ = ["ArchiveError", "ImageArchive", "ImageTooLarge"]
