# SPDX-License-Identifier: Apache-2.0
"""How an engine's images appear in Glance: pure functions."""

from __future__ import annotations

import fnmatch
import json
import uuid
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from docker_engine.reference import RESERVED_REPOSITORIES

# nova-compute's own images are not listed.
_RESERVED = tuple(f"{name}/" for name in RESERVED_REPOSITORIES)

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


class Access(NamedTuple):
    """Who can see an image.

    :ivar visibility: Glance's: ``public``, ``community``, ``private`` or ``shared``
    :ivar projects: for ``shared``, the IDs of the projects besides the owner
    """

    visibility: str
    projects: tuple[str, ...] = ()


_HIDDEN = "hidden"
_VISIBILITIES = ("public", "community", "private", _HIDDEN)
_PROJECT = "project:"


class Rules:
    """Who can see which images; the first rule that matches a name applies.

    :param rules: each ``PATTERN ACCESS``: a shell pattern (``team-a/*``), and
        ``public``, ``community``, ``private``, ``hidden`` (not in Glance at all) or
        ``project:ID[,ID…]``
    :param default: the access for names that no rule matches
    :raises ValueError: when a rule is malformed
    """

    def __init__(self, rules: Iterable[str], default: str) -> None:
        self._rules = [_rule(line) for line in rules]
        self._rules.append(("*", _access(default)))

    def access(self, name: str) -> Access | None:
        """Return who can see the image, or None when Glance does not list it."""
        for pattern, access in self._rules:
            if fnmatch.fnmatchcase(name, pattern):
                return access
        raise AssertionError("the last rule matches every name")


def _rule(line: str) -> tuple[str, Access | None]:
    parts = line.split()
    if len(parts) != 2:
        raise ValueError(f"invalid rule {line!r}: not PATTERN ACCESS")
    return parts[0], _access(parts[1])


def _access(word: str) -> Access | None:
    if word.startswith(_PROJECT):
        projects = tuple(filter(None, word.removeprefix(_PROJECT).split(",")))
        if projects:
            return Access("shared", projects)
    if word not in _VISIBILITIES:
        raise ValueError(
            f"invalid access {word!r}: "
            f"not one of {', '.join(_VISIBILITIES)}, {_PROJECT}ID[,ID…]"
        )
    return None if word == _HIDDEN else Access(word)


class Wanted(NamedTuple):
    """How Glance should list an image.

    :ivar digest: ``repository@sha256:…`` of the image in a registry, if it has one
    """

    access: Access
    digest: str | None


def wanted(images: Iterable[Mapping[str, Any]], rules: Rules) -> dict[Key, Wanted]:
    """Return the images that Glance should list.

    :param images: the response of "GET /images/json"
    """
    found = {}
    for image in images:
        for name in image["RepoTags"] or ():
            if name == "<none>:<none>" or name.startswith(_RESERVED):
                continue
            if access := rules.access(name):
                place = digest(name, image.get("RepoDigests") or ())
                found[Key(name, image["Id"])] = Wanted(access, place)
    return found


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
