# SPDX-License-Identifier: Apache-2.0
"""Names and labels of servers' containers."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from nova import objects

# Existing hosts have containers and namespaces with these names and labels: they must
# not change.
PREFIX = "nova-"
LABEL_PREFIX = "org.openstack.nova."
UUID_LABEL = LABEL_PREFIX + "uuid"
NAME_LABEL = LABEL_PREFIX + "name"  # Nova's internal name, instance-00000001

#: Filter of the Engine API that selects the containers of servers
SERVERS = {"label": [UUID_LABEL]}


def name_of(uuid: str) -> str:
    """Return the name of a server's container and of its network namespace."""
    return PREFIX + uuid


def aside_name_of(uuid: str) -> str:
    """Return the name of a server's own container while it is in rescue."""
    return name_of(uuid) + "-rescued"


def uuid_of(labels: Mapping[str, str], names: Iterable[str]) -> str | None:
    """Return a server's UUID, given the labels and names of its container.

    The label alone does not make a container a server: a container that somebody else
    runs on this engine inherits the labels of its image, which may be a tenant's.

    :param names: with or without the engine's leading slash
    :returns: None if the container is not a server's
    """
    uuid = labels.get(UUID_LABEL)
    own = {name_of(uuid), aside_name_of(uuid)} if uuid else set()
    return uuid if own & {name.lstrip("/") for name in names} else None


def labels(instance: objects.Instance) -> dict[str, str]:
    """Return a container's labels, for operators' ``docker ps --filter``."""
    return {
        UUID_LABEL: instance.uuid,
        NAME_LABEL: instance.name,
        LABEL_PREFIX + "display_name": instance.display_name or "",
        LABEL_PREFIX + "project": instance.project_id or "",
        LABEL_PREFIX + "image": instance.image_ref or "",
    }


def by_uuid(listed: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return one container per server, by UUID.

    A server in rescue has two; its rescue container is returned.

    :param listed: containers with the label :data:`UUID_LABEL`, as GET
        /containers/json returns them
    """
    found: dict[str, dict[str, Any]] = {}
    for item in listed:
        uuid = uuid_of(item["Labels"], item["Names"])
        if uuid is None:
            continue
        if uuid not in found or f"/{name_of(uuid)}" in item["Names"]:
            found[uuid] = item
    return found
