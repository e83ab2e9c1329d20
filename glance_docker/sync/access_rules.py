# SPDX-License-Identifier: Apache-2.0
"""Which of the engine's images Glance should list, and for whom: pure functions."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from docker_engine.reference import is_reserved
from glance_docker.image_metadata import Key
from glance_docker.image_metadata import digest


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
            if name == "<none>:<none>" or is_reserved(name):
                continue
            if access := rules.access(name):
                place = digest(name, image.get("RepoDigests") or ())
                found[Key(name, image["Id"])] = Wanted(access, place)
    return found
