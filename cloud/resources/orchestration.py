# SPDX-License-Identifier: Apache-2.0
"""Keystone: the domain of the users that Heat creates for stacks."""

from __future__ import annotations

from cloud import credentials
from cloud import settings
from cloud.probes import wait_until
from cloud.resources.broker import consumes
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create

DOMAIN = "heat"
ADMIN = "heat_domain_admin"


def create_domain() -> None:
    """Create the domain, the user that manages it, and the role of its other users.

    ``heat.conf`` names all three.
    """
    identity = connect().identity
    domain = find_or_create(identity.find_domain, identity.create_domain, DOMAIN)
    admin = identity.find_user(ADMIN, domain_id=domain.id) or identity.create_user(
        name=ADMIN,
        domain_id=domain.id,
        password=credentials.passwords()["service"],
    )
    identity.assign_domain_role_to_user(domain, admin, identity.find_role("admin"))
    find_or_create(identity.find_role, identity.create_role, "heat_stack_user")


def wait_until_ready() -> None:
    """Wait until heat-engine consumes the requests of heat-api."""
    log = settings.LOG / "heat-engine.log"
    wait_until(lambda: consumes("engine"), f"heat-engine is not ready; see {log}")
