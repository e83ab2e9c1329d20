# SPDX-License-Identifier: Apache-2.0
"""Image properties that determine a server's first process and its administrator."""

from __future__ import annotations

import shlex

from nova import exception
from nova import objects

from nova_docker.container.init import INITS
from nova_docker.container.settings import Settings
from nova_docker.container.settings import lessened
from nova_docker.container.settings import of

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


def own(
    instance: objects.Instance, image_meta: objects.ImageMeta, name: str
) -> str | None:
    """Return a property that Nova does not know, None if the image has none.

    Nova passes only the properties that it knows itself to a driver, and stores the
    others of a server's image with the server; those of a rescue image it drops.
    """
    # The image of a server that would boot from a volume has no ID.
    if not image_meta.obj_attr_is_set("id") or image_meta.id != instance.image_ref:
        return None
    value: str | None = instance.system_metadata.get(f"image_{name}")
    return value


def settings(instance: objects.Instance, image_meta: objects.ImageMeta) -> Settings:
    """Return what a server is set up with: what its flavor has, or less.

    The properties are ``os_read_only`` and ``os_shm_size_mb``.

    :raises InvalidInput: if the flavor's settings are malformed
    :raises ImageUnacceptable: if a property is malformed or asks for more
    """
    read_only, shm_mb = (
        own(instance, image_meta, name) for name in ("os_read_only", "os_shm_size_mb")
    )
    return lessened(of(instance.flavor), image_meta.id, read_only, shm_mb)


def init(instance: objects.Instance, image_meta: objects.ImageMeta) -> str | None:
    """Return the init in the property ``os_init``.

    :returns: one of :data:`nova_docker.container.init.INITS`, None if there is none
    :raises ImageUnacceptable: if there is no such init
    """
    value = own(instance, image_meta, _INIT)
    if value and value not in INITS:
        raise exception.ImageUnacceptable(
            image_id=image_meta.id,
            reason=f"property {_INIT}={value} is none of {', '.join(INITS)}",
        )
    return value or None


def admin_user(image_meta: objects.ImageMeta) -> str:
    """Return the user who gets keys and passwords: ``os_admin_user``, or root."""
    return image_meta.properties.get("os_admin_user") or "root"
