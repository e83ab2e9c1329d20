# SPDX-License-Identifier: Apache-2.0
"""Image properties that determine a server's command and its administrator."""

from __future__ import annotations

import shlex

from nova import exception
from nova import objects


def command(image_meta: objects.ImageMeta) -> list[str] | None:
    """Return the command in the property ``os_command_line``.

    :returns: its words, split as a shell does; None to run the image's own command
    :raises ImageUnacceptable: if a quotation mark is not closed
    """
    line = image_meta.properties.get("os_command_line")
    if not line:
        return None
    try:
        return shlex.split(line)
    except ValueError as error:
        raise exception.ImageUnacceptable(
            image_id=image_meta.id,
            reason=f"property os_command_line is not a valid command line: {error}",
        ) from error


def admin_user(image_meta: objects.ImageMeta) -> str:
    """Return the user who gets keys and passwords: ``os_admin_user``, or root."""
    return image_meta.properties.get("os_admin_user") or "root"
