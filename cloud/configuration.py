# SPDX-License-Identifier: Apache-2.0
"""Configuration files: the templates in config/ with this cloud's values."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pathlib
import pwd
import re
import string
from collections.abc import Sequence

from cloud import commands
from cloud import databases
from cloud import engine
from cloud import settings
from cloud.settings import AUTH_URL
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import LOG
from cloud.settings import RUN
from cloud.settings import STATE

TEMPLATES = settings.SOURCE / "cloud/templates"

USERS = ("admin", "demo")

# Directories of the state, and whose they are.
DIRECTORIES = {
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

# Step logs show command lines, some of which hold passwords.
PRIVATE = (LOG, DATA / "fernet", DATA / "mariadb", DATA / "rabbitmq", DATA / "glance")


def check_state() -> None:
    """Refuse a state directory whose name does not work everywhere.

    :raises commands.Failed: with what is wrong with it
    """
    # It goes into sudoers, shell lines and the names of unix sockets.
    if not re.fullmatch(r"/[A-Za-z0-9/._-]{1,60}", str(STATE)):
        raise commands.Failed(
            f"NOVA_DOCKER_CLOUD_DIR={STATE}: use an absolute path of at most 60 "
            "letters, digits and /._-"
        )


def make_directories() -> None:
    for path, user in DIRECTORIES.items():
        path.mkdir(exist_ok=True)
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)
        path.chmod(0o700 if path in PRIVATE else 0o755)


def write() -> None:
    """Write all configuration files; what has not changed is left alone."""
    values = {
        **{f"secret_{name}": value for name, value in settings.secrets().items()},
        **{f"port_{k.replace('-', '_')}": v for k, v in settings.PORTS.items()},
        **{f"database_{name}": databases.url(name) for name in databases.NAMES},
        "auth_url": AUTH_URL,
        "bin": settings.BIN,
        "compute_driver": settings.COMPUTE_DRIVER,
        "data": DATA,
        "engine": engine.host(),
        "etc": ETC,
        "fake_host": settings.FAKE_HOST,
        "host": settings.HOST,
        "run": RUN,
        "threads": 4,
        "venv": settings.VENV,
    }
    values["keystone_authtoken"] = string.Template(_AUTHTOKEN).substitute(values)
    owner = grp.getgrnam(settings.USER).gr_gid
    for template in sorted(TEMPLATES.rglob("*.*")):
        path = ETC / template.relative_to(TEMPLATES)
        path.parent.mkdir(exist_ok=True)
        text = string.Template(template.read_text()).substitute(values)
        if not path.exists() or path.read_text() != text:
            path.touch(mode=0o640)
            path.write_text(text)
        if path.name.startswith(("rabbitmq", "mariadb")):
            path.chmod(0o644)
        else:
            os.chown(path, 0, owner)
    _write_clouds_yaml()


def revision(paths: Sequence[pathlib.Path], *more: str) -> str:
    """Return a short hash of these files."""
    found = hashlib.sha256("\0".join(more).encode())
    for path in paths:
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def credentials(user: str) -> dict[str, str]:
    """Return what a client needs to be ``user``, admin or demo."""
    return {
        "auth_url": AUTH_URL,
        "username": user,
        "password": settings.secrets()[user],
        "project_name": user,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def _write_clouds_yaml() -> None:
    clouds = {
        user: {
            "auth": credentials(user),
            "region_name": settings.REGION,
            "identity_api_version": "3",
        }
        for user in USERS
    }
    settings.CLOUDS_YAML.touch(mode=0o600)
    # JSON is YAML.
    settings.CLOUDS_YAML.write_text(json.dumps({"clouds": clouds}, indent=2) + "\n")


_AUTHTOKEN = f"""\
[keystone_authtoken]
www_authenticate_uri = $auth_url
auth_url = $auth_url
auth_type = password
user_domain_name = Default
project_domain_name = Default
project_name = service
password = $secret_service
region_name = {settings.REGION}
service_token_roles = service
service_token_roles_required = true
"""
