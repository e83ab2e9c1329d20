# SPDX-License-Identifier: Apache-2.0
"""The error for an archive that cannot be loaded."""

from __future__ import annotations


class ArchiveError(Exception):
    """The archive cannot be loaded.

    The message says why without naming the archive: callers put its name in front.
    """
