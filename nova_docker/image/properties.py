# SPDX-License-Identifier: Apache-2.0
"""The image properties that choose what a server runs and who administers it."""

from __future__ import annotations

import shlex

from nova import exception
from nova import objects


def command(image_meta: objects.ImageMeta) -> list[str] | None:
    """Return the command that the property ``os_command_line`` asks for.

    :returns: its words, split as a shell splits them; None for the image's command
    :raises ImageUnacceptable: if a quotation is not closed
    """
    line = image_meta.properties.get("os_command_line")
    if not line:
        return None
    try:
        return shlex.split(line)
    except ValueError as error:
        raise exception.ImageUnacceptable(
            image_id=image_meta.id,
            reason=f"the property os_command_line cannot be split into words: {error}",
        ) from error


def admin_user(image_meta: objects.ImageMeta) -> str:
    """Return the user for keys and passwords: ``os_admin_user``, or root."""
    return image_meta.properties.get("os_admin_user") or "root"
