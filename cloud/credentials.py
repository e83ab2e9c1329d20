# SPDX-License-Identifier: Apache-2.0
"""The cloud's passwords, the credentials of its users, and their SSH key."""

from __future__ import annotations

import json
import secrets

from cloud import commands
from cloud import settings
from cloud.state import state

USERS = ("admin", "demo")

# "service" is shared by the services' users in Keystone; "metadata" is the secret
# that Neutron's agent and Nova's metadata API share; "heat" encrypts credentials in
# Heat's database, and must have 32 characters.
PASSWORDS = ("database", "rabbitmq", "admin", "demo", "service", "metadata", "heat")


def passwords() -> dict[str, str]:
    """Return the cloud's passwords by name, and generate those that are missing.

    An earlier version, which may have created the cloud, knew fewer of them.
    """
    found = state.get("secrets", {})
    missing = [name for name in PASSWORDS if name not in found]
    if missing:
        found |= {name: secrets.token_hex(16) for name in missing}
        state.set("secrets", found)
    return found


def of_user(user: str) -> dict[str, str]:
    """Return the arguments of Keystone's password plugin for one of ``USERS``."""
    return {
        "auth_url": settings.AUTH_URL,
        "username": user,
        "password": passwords()[user],
        "project_name": user,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }


def write_clouds_yaml() -> None:
    clouds = {
        user: {
            "auth": of_user(user),
            "region_name": settings.REGION,
            "identity_api_version": "3",
        }
        for user in USERS
    }
    settings.CLOUDS_YAML.touch(mode=0o600)
    # JSON is valid YAML.
    settings.CLOUDS_YAML.write_text(json.dumps({"clouds": clouds}, indent=2) + "\n")


def make_ssh_key() -> None:
    """Generate the SSH key of the key pair ``quickstart``, once."""
    if not settings.SSH_KEY.exists():
        commands.run(
            *("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "quickstart"),
            *("-f", settings.SSH_KEY),
        )
