# SPDX-License-Identifier: Apache-2.0
"""The error of an archive that cannot be loaded."""

from __future__ import annotations


class ArchiveError(Exception):
    """The archive is not a loadable one; the message is a sentence on why."""
