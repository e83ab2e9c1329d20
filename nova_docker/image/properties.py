# SPDX-License-Identifier: Apache-2.0
"""Image properties that determine a server's first process and its administrator."""

from __future__ import annotations

import shlex

from nova import exception
from nova import objects

from nova_docker.container.init import INITS

_INIT = "os_init"


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


def init(instance: objects.Instance, image_meta: objects.ImageMeta) -> str | None:
    """Return the init in the property ``os_init``.

    Nova passes only the properties that it knows itself to a driver, and stores the
    others of a server's image with the server; those of a rescue image it drops.

    :returns: one of :data:`nova_docker.container.init.INITS`, None if there is none
    :raises ImageUnacceptable: if there is no such init
    """
    if image_meta.id != instance.image_ref:
        return None
    value = instance.system_metadata.get(f"image_{_INIT}")
    if value and value not in INITS:
        raise exception.ImageUnacceptable(
            image_id=image_meta.id,
            reason=f"property {_INIT}={value} is none of {', '.join(INITS)}",
        )
    return value or None


def admin_user(image_meta: objects.ImageMeta) -> str:
    """Return the user who gets keys and passwords: ``os_admin_user``, or root."""
    return image_meta.properties.get("os_admin_user") or "root"
