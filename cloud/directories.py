# SPDX-License-Identifier: Apache-2.0
"""The directories below the state directory, with their owners."""

from __future__ import annotations

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

OWNERS = {
    ETC: "root",
    LOG: "root",
    DATA: "root",
    RUN: "root",
    DATA / "docker": "root",
    DATA / "containerd": "root",
    DATA / "images": "root",
    RUN / "docker": "root",
    RUN / "containerd": "root",
    RUN / "ovs": "root",
    DATA / "mariadb": "mysql",
    RUN / "mariadb": "mysql",
    DATA / "rabbitmq": "rabbitmq",
    DATA / "nova": settings.USER,
    DATA / "nova-fake": settings.USER,
    DATA / "fernet": settings.USER,
    DATA / "glance": settings.USER,
    DATA / "ovn": settings.USER,
    RUN / "ovn": settings.USER,
    RUN / "metadata": settings.USER,
    RUN / "neutron": settings.USER,
    RUN / "locks": settings.USER,
}

# Step logs contain command lines, and some of these contain passwords.
PRIVATE = (LOG, DATA / "fernet", DATA / "mariadb", DATA / "rabbitmq", DATA / "glance")


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
    for path, user in OWNERS.items():
        path.mkdir(exist_ok=True)
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        path.chmod(0o700 if path in PRIVATE else 0o755)
