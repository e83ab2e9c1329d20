# SPDX-License-Identifier: Apache-2.0
"""What an engine's images look like in Glance: pure functions."""

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

# Properties by which an image of the sync's is known; nobody trusts them.
ENGINE = "docker_engine"
NAME = "docker_tag"
IMAGE_ID = "docker_image_id"
SERIAL = "docker_serial"

_NAMESPACE = uuid.UUID("5d0a4d0c-6d0e-4b58-9f1b-0d9f6b6f3c55")

# Glance's bounds: of a name, in characters, and of a property, in bytes.
_MAX_NAME = 255
_MAX_PROPERTY = 60_000

# Go's names of architectures, and Nova's; it refuses an image that has another.
_ARCHITECTURES = {
    "386": "i686",
    "amd64": "x86_64",
    "arm": "armv7l",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
}


class Key(NamedTuple):
    """One image in Glance: a tag of an engine's image.

    :ivar name: ``repository:tag``
    :ivar image_id: the engine's, ``sha256:…``
    """

    name: str
    image_id: str


class Access(NamedTuple):
    """Who sees an image.

    :ivar visibility: Glance's: ``public``, ``community``, ``private``, ``shared``
    :ivar projects: for ``shared``: ids of who sees it beside the owner
    """

    visibility: str
    projects: tuple[str, ...] = ()


_HIDDEN = "hidden"
_VISIBILITIES = ("public", "community", "private", _HIDDEN)
_PROJECT = "project:"


class Rules:
    """Who sees which images; the first rule whose pattern a name has counts.

    :param rules: ``PATTERN ACCESS``; a pattern as of a shell (``team-a/*``), and
        ``public``, ``community``, ``private``, ``hidden`` (not in Glance at all)
        or ``project:ID[,ID…]``
    :param default: the access of names that have no rule
    :raises ValueError: when a rule is not one
    """

    def __init__(self, rules: Iterable[str], default: str) -> None:
        self._rules = [_rule(line) for line in rules]
        self._rules.append(("*", _access(default)))

    def access(self, name: str) -> Access | None:
        """Return who sees the image; None: it is not listed."""
        for pattern, access in self._rules:
            if fnmatch.fnmatchcase(name, pattern):
                return access
        raise AssertionError("the last rule is for all")


def _rule(line: str) -> tuple[str, Access | None]:
    parts = line.split()
    if len(parts) != 2:
        raise ValueError(f"not a rule, PATTERN ACCESS: {line!r}")
    return parts[0], _access(parts[1])


def _access(word: str) -> Access | None:
    if word.startswith(_PROJECT):
        projects = tuple(filter(None, word.removeprefix(_PROJECT).split(",")))
        if projects:
            return Access("shared", projects)
    if word not in _VISIBILITIES:
        raise ValueError(
            f"{word!r} is none of {', '.join(_VISIBILITIES)}, {_PROJECT}ID[,ID…]"
        )
    return None if word == _HIDDEN else Access(word)


class Wanted(NamedTuple):
    """What Glance should say of an image.

    :ivar digest: where a registry has it, ``repository@sha256:…``
    """

    access: Access
    digest: str | None


def wanted(images: Iterable[Mapping[str, Any]], rules: Rules) -> dict[Key, Wanted]:
    """Return what Glance should list.

    :param images: what "GET /images/json" answers
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
    """Return the id that Glance's image has, the same each time.

    :param serial: makes another, for an id that Glance knows as deleted
    """
    return str(uuid.uuid5(_NAMESPACE, "\n".join((engine, *key, serial))))


def shown_name(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"…{name[1 - _MAX_NAME :]}"


def properties(
    engine: str, key: Key, image: Mapping[str, Any], serial: str = ""
) -> dict[str, str]:
    """Return what Glance says of an image beside its base properties.

    :param image: what "GET /images/{name}/json" answers
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
    """Return what the image itself says; also of one that is uploaded."""
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
    """Return where a registry has an image: ``repository@sha256:…``.

    :param digests: all its places; the one whose repository is its name's is best
    """
    repository = name.rpartition(":")[0]
    known = [found for found in digests if not found.startswith("<none>")]
    for found in known:
        if found.rpartition("@")[0] == repository:
            return found
    return known[0] if known else None


def _json(value: Any) -> str:
    # In ASCII: Glance takes no character beyond the basic plane.
    return json.dumps(value, sort_keys=True) if value else ""
