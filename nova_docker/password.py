# SPDX-License-Identifier: Apache-2.0
"""The administrator's password, set by the image's ``chpasswd``."""

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

# chpasswd reads lines of "user:password", and as a C program, up to a NUL.
_LINE_ENDS = ("\r", "\n", "\0")

# Characters of what the image's program writes, in an error message
_MAX_QUOTED = 200

_NOT_EXECUTABLE = (126, 127)  # exit codes of shells and of the engine


def change(guest: Guest, instance: objects.Instance, password: str) -> None:
    """Set the password, and keep it for ``nova get-password`` as libvirt's driver does.

    Serves ComputeDriver.set_admin_password.

    :raises SetAdminPasswdNotSupported: if the image has no chpasswd
    :raises InstancePasswordSetFailed: if chpasswd fails or does not end in time
    :raises NovaException: if the server is not running, or the engine fails
    """
    _set(guest, instance, properties.admin_user(instance.image_meta), password)
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
    """Set the password of a server that has just started, if nova.conf asks for it.

    A failure is logged: it does not fail the boot.
    """
    if not CONF.docker.inject_password or not password:
        return
    try:
        _set(guest, instance, properties.admin_user(image_meta), password)
    except exception.NovaException as error:
        LOG.warning("Failed to inject the password: %s", error, instance=instance)


def _set(guest: Guest, instance: objects.Instance, user: str, password: str) -> None:
    def failed(reason: str) -> exception.InstancePasswordSetFailed:
        return exception.InstancePasswordSetFailed(
            instance=instance.uuid, reason=reason
        )

    if any(mark in password for mark in _LINE_ENDS):
        raise failed("the password contains a forbidden character (line break or NUL)")
    if any(mark in user for mark in (*_LINE_ENDS, ":")):
        raise failed(
            f"the user name {user!r}, from the image property os_admin_user, contains "
            "a forbidden character (line break, NUL or colon)"
        )
    code, output = guest.run(["chpasswd"], f"{user}:{password}\n".encode())
    if code in _NOT_EXECUTABLE:
        raise exception.SetAdminPasswdNotSupported(
            "Set admin password is not supported: the image has no chpasswd program"
        )
    if code is None:
        raise failed("chpasswd wrote too much output or did not end in time")
    if code != 0:
        said = output[:_MAX_QUOTED]
        raise failed(f"chpasswd exited with status {code} and wrote {said!r}")
