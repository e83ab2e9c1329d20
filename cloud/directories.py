# SPDX-License-Identifier: Apache-2.0
"""The directories below the state directory, with their owners."""

from __future__ import annotations

import grp
import os
import pwd
import re

from cloud import settings
from cloud.errors import QuickstartError
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import LOG
from cloud.settings import RUN
from cloud.settings import STATE
from cloud.settings import VOLUMES

_ROOT = ("root", "root", 0o700)
# Users who know a path pass through, but cannot list the directory.
_ROOT_THROUGH = ("root", "root", 0o711)
_NOVA = (settings.USER, settings.USER, 0o700)
_NOVA_THROUGH = (settings.USER, settings.USER, 0o711)

# User, group and mode.
OWNERS = {
    ETC: _ROOT_THROUGH,
    # Step logs contain command lines.
    LOG: _ROOT,
    DATA: _ROOT_THROUGH,
    RUN: _ROOT_THROUGH,
    # The engine's own modes.
    DATA / "docker": ("root", "root", 0o710),
    DATA / "containerd": _ROOT_THROUGH,
    DATA / "images": _ROOT,
    RUN / "docker": _ROOT_THROUGH,
    RUN / "containerd": _ROOT_THROUGH,
    # New sockets belong to the directory's group: nova-compute and Neutron's agent
    # use the switch's database.
    RUN / "ovs": ("root", settings.USER, 0o2750),
    DATA / "mariadb": ("mysql", "mysql", 0o700),
    # MariaDB lets all users connect to its socket.
    RUN / "mariadb": ("mysql", settings.USER, 0o750),
    DATA / "rabbitmq": ("rabbitmq", "rabbitmq", 0o700),
    DATA / "nova": _NOVA,
    DATA / "nova-fake": _NOVA,
    DATA / "fernet": _NOVA,
    DATA / "glance": _NOVA,
    DATA / "horizon": _NOVA,
    DATA / "horizon/sessions": _NOVA,
    DATA / "ovn": _NOVA,
    # nova-compute's privsep daemons, which may lack CAP_DAC_OVERRIDE, follow the links.
    VOLUMES: _NOVA_THROUGH,
    VOLUMES / "devices": _NOVA_THROUGH,
    VOLUMES / "files": _NOVA,
    VOLUMES / "images": _NOVA,
    RUN / "ovn": _NOVA,
    RUN / "metadata": _NOVA,
    RUN / "neutron": _NOVA,
    RUN / "locks": _NOVA,
}


def check_state_directory() -> None:
    """Reject a state directory whose name some program could not handle.

    :raises QuickstartError: when the name is too long or has special characters
    """
    # The name ends up in sudoers, in shell lines and in the paths of unix sockets,
    # which the kernel limits to 107 bytes.
    if not re.fullmatch(r"/[A-Za-z0-9/._-]{1,60}", str(STATE)):
        raise QuickstartError(
            f"cannot use NOVA_DOCKER_CLOUD_DIR={STATE}: it must be an absolute path "
            "of at most 60 letters, digits and the characters / . _ -"
        )


def make_directories() -> None:
    for path, (user, group, mode) in OWNERS.items():
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
        path.chmod(mode)
