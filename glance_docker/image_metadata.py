# SPDX-License-Identifier: Apache-2.0
"""How an engine's images appear in Glance: pure functions."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

# Properties that identify an image of glance-docker-sync. They are informative: any
# tenant can set them on an image.
ENGINE = "docker_engine"
NAME = "docker_tag"
IMAGE_ID = "docker_image_id"
SERIAL = "docker_serial"

_NAMESPACE = uuid.UUID("5d0a4d0c-6d0e-4b58-9f1b-0d9f6b6f3c55")

# Glance's limits for a name, in characters, and for a property, in bytes.
_MAX_NAME = 255
_MAX_PROPERTY = 60_000

# GOARCH names and Nova's; Nova rejects images with an unknown architecture.
_ARCHITECTURES = {
    "386": "i686",
    "amd64": "x86_64",
    "arm": "armv7l",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


class Key(NamedTuple):
    """A tag of an engine's image, which is one image in Glance.

    :ivar name: ``repository:tag``
    :ivar image_id: the engine's ID of the image, ``sha256:…``
    """

    name: str
    image_id: str


def glance_id(engine: str, key: Key, serial: str = "") -> str:
    """Return the ID of an image in Glance, which depends on the arguments only.

    :param serial: a string that gives another ID, where Glance rejects the first as
        one of a deleted image
    """
    return str(uuid.uuid5(_NAMESPACE, "\n".join((engine, *key, serial))))


def shown_name(name: str) -> str:
    """Return an image's name in Glance: the end of a name that is too long."""
    return name if len(name) <= _MAX_NAME else f"…{name[1 - _MAX_NAME :]}"


def properties(
    engine: str, key: Key, image: Mapping[str, Any], serial: str = ""
) -> dict[str, str]:
    """Return the properties of an engine's image in Glance.

    :param image: the response of "GET /images/{name}/json"
    """
    found = {
        ENGINE: engine,
        NAME: key.name,
        IMAGE_ID: key.image_id,
        SERIAL: serial,
        **described(image),
        "docker_digest": digest(key.name, image.get("RepoDigests") or ()) or "",
    }
    return {name: value for name, value in found.items() if value}


def described(image: Mapping[str, Any]) -> dict[str, str]:
    """Return the properties that follow from an image's configuration.

    :param image: the response of "GET /images/{name}/json"
    """
    config = image.get("Config") or {}
    found = {
        "architecture": _ARCHITECTURES.get(image.get("Architecture", ""), ""),
        "docker_created": image.get("Created") or "",
        "docker_entrypoint": _json(config.get("Entrypoint")),
        "docker_cmd": _json(config.get("Cmd")),
        "docker_labels": _json(config.get("Labels")),
        "docker_volumes": _json(sorted(config.get("Volumes") or ())),
    }
    return {
        name: value
        for name, value in found.items()
        if value and len(value) <= _MAX_PROPERTY
    }


def digest(name: str, digests: Sequence[str]) -> str | None:
    """Return ``repository@sha256:…`` of an image in a registry, or None.

    :param digests: all of the image's; the one in the repository of its name is best
    """
    repository = name.rpartition(":")[0]
    known = [found for found in digests if not found.startswith("<none>")]
    for found in known:
        if found.rpartition("@")[0] == repository:
            return found
    return known[0] if known else None


def _json(value: Any) -> str:
    # In ASCII: Glance rejects characters outside the Basic Multilingual Plane.
    return json.dumps(value, sort_keys=True) if value else ""
