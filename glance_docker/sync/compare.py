# SPDX-License-Identifier: Apache-2.0
"""What must change for Glance to list what the engine has: pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from glance_docker.image_metadata import Key
from glance_docker.image_metadata import shown_name
from glance_docker.sync.access_rules import Wanted
from glance_docker.sync.images import ListedImage

# The status of an image that has no location yet.
WITHOUT_LOCATION = "queued"
# The status of an image whose location Glance is checking.
IMPORTING = "importing"


class Changes(NamedTuple):
    """The images to remove from Glance, to add to it, and to correct in it."""

    remove: list[Key]
    add: list[Key]
    correct: list[Key]


def compare(
    wanted: Mapping[Key, Wanted],
    listed: Mapping[Key, ListedImage],
    *,
    check_members: bool,
) -> Changes:
    """Return what makes Glance list exactly the wanted images.

    :param check_members: whether to correct all shared images. Glance's list does
        not tell with whom an image is shared.
    """
    return Changes(
        remove=[key for key in listed if key not in wanted],
        add=[key for key in wanted if key not in listed],
        correct=[
            key
            for key, want in wanted.items()
            if key in listed
            and (
                _differs(key, want, listed[key])
                or (check_members and want.access.projects)
            )
        ],
    )


def _differs(key: Key, want: Wanted, image: ListedImage) -> bool:
    shown = (image.name, image.visibility, image.protected)
    return shown != (shown_name(key.name), want.access.visibility, True)


def without_location(
    wanted: Mapping[Key, Wanted], listed: Mapping[Key, ListedImage]
) -> list[Key]:
    """Return the wanted images that Glance lists but cannot read yet."""
    return [
        key
        for key in wanted
        if key in listed and listed[key].status == WITHOUT_LOCATION
    ]


def pending(listed: Mapping[Key, ListedImage]) -> list[Key]:
    """Return the images that Glance has not made active yet, as far as is known."""
    return [
        key
        for key, image in listed.items()
        if image.status in (WITHOUT_LOCATION, IMPORTING)
    ]
