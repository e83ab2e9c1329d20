# SPDX-License-Identifier: Apache-2.0
"""The administrator's password of a server: set when asked to, and at its boot."""

from __future__ import annotations

import base64

from nova import conf as nova_conf
from nova import crypto
from nova import exception
from nova import objects
from nova.api.metadata import password as metadata
from oslo_log import log as logging

from nova_docker.guest import Guest
from nova_docker.image import properties

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)


def change(guest: Guest, instance: objects.Instance, password: str) -> None:
    """Set it, and keep it for ``nova get-password``, as libvirt's driver does.

    :raises NovaException: what :meth:`Guest.set_password` raises
    """
    guest.set_password(properties.admin_user(instance.image_meta), password)
    if instance.key_data and instance.key_data.startswith("ssh-rsa"):
        secret = crypto.ssh_encrypt_text(instance.key_data, password)
        encoded = base64.b64encode(secret).decode()
        instance.system_metadata.update(metadata.convert_password(None, encoded))
        instance.save()


def inject(
    guest: Guest,
    instance: objects.Instance,
    image_meta: objects.ImageMeta,
    password: str | None,
) -> None:
    """Set that of a server that has just started, if nova.conf asks for it.

    A server whose password cannot be set has booted all the same.
    """
    if not CONF.docker.inject_password or not password:
        return
    try:
        guest.set_password(properties.admin_user(image_meta), password)
    except exception.NovaException as error:
        LOG.warning("The password is not set: %s", error, instance=instance)
