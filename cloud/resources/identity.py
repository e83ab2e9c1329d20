# SPDX-License-Identifier: Apache-2.0
"""Keystone: users, projects, roles, and the service catalog."""

from __future__ import annotations

from cloud import credentials
from cloud import parts
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create
from cloud.settings import PORTS
from cloud.settings import REGION

# name: (type, name of its port, path of its API)
SERVICES = {
    "placement": ("placement", "placement", ""),
    "glance": ("image", "glance", ""),
    "neutron": ("network", "neutron", ""),
    "nova": ("compute", "nova-api", "/v2.1"),
    "cinder": ("block-storage", "cinder", "/v3"),
}
HEAT = {"heat": ("orchestration", "heat-api", "/v1/$(project_id)s")}


def create_users() -> None:
    """Create the services' users and endpoints, and the user and project demo."""
    identity = connect().identity
    passwords = credentials.passwords()
    roles = {role.name: role for role in identity.roles()}
    service = find_or_create(identity.find_project, identity.create_project, "service")
    if "service" not in roles:
        roles["service"] = identity.create_role(name="service")
    services = SERVICES | (HEAT if parts.has("heat") else {})
    for name, (kind, port, path) in services.items():
        user = find_or_create(
            identity.find_user,
            identity.create_user,
            name,
            password=passwords["service"],
        )
        for role in ("admin", "service"):
            identity.assign_project_role_to_user(service, user, roles[role])
        entry = find_or_create(
            identity.find_service, identity.create_service, name, type=kind
        )
        if not list(identity.endpoints(service_id=entry.id)):
            for interface in ("public", "internal", "admin"):
                identity.create_endpoint(
                    service_id=entry.id,
                    interface=interface,
                    region_id=REGION,
                    url=f"http://127.0.0.1:{PORTS[port]}{path}",
                )
    # Glance requires this role of a user who registers an image of a registry.
    identity.assign_project_role_to_user(
        identity.find_project("admin"), identity.find_user("admin"), roles["service"]
    )
    # glance-docker-sync lists the engine's images in Glance as this user.
    user = find_or_create(
        identity.find_user,
        identity.create_user,
        "glance-docker-sync",
        password=passwords["service"],
    )
    for role in ("admin", "service"):
        identity.assign_project_role_to_user(service, user, roles[role])
    project = find_or_create(identity.find_project, identity.create_project, "demo")
    demo = find_or_create(
        identity.find_user,
        identity.create_user,
        "demo",
        password=passwords["demo"],
        default_project_id=project.id,
    )
    for role in ("member", "reader"):
        identity.assign_project_role_to_user(project, demo, roles[role])
