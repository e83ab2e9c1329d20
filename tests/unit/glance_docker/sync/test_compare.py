# SPDX-License-Identifier: Apache-2.0
"""What must change for Glance to list what the engine has."""

from __future__ import annotations

import pytest

from glance_docker.image_metadata import Key
from glance_docker.sync import compare
from glance_docker.sync.access_rules import Access
from glance_docker.sync.access_rules import Wanted
from glance_docker.sync.images import ListedImage

A = Key("a:1", "sha256:1")
B = Key("b:1", "sha256:1")
MOVED = Key("a:1", "sha256:2")
PUBLIC = Wanted(Access("public"), None)
SHARED = Wanted(Access("shared", ("p1",)), None)


def listed(key, status="active", visibility="public", **values):
    found = {"name": key.name, "protected": True, **values}
    return ListedImage("id", status, visibility=visibility, **found)


def changes(wanted, images, check_members=False):
    return compare.compare(wanted, images, check_members=check_members)


def test_nothing_changes_when_both_are_equal():
    assert changes({A: PUBLIC}, {A: listed(A)}) == ([], [], [])
    assert changes({}, {}) == ([], [], [])


def test_a_new_tag_is_added_and_an_old_one_removed():
    found = changes({A: PUBLIC}, {B: listed(B)})
    assert (found.add, found.remove, found.correct) == ([A], [B], [])


def test_a_moved_tag_is_another_image():
    found = changes({MOVED: PUBLIC}, {A: listed(A)})
    assert (found.add, found.remove) == ([MOVED], [A])


@pytest.mark.parametrize(
    "values", [{"name": "mine"}, {"visibility": "private"}, {"protected": False}]
)
def test_an_image_that_differs_is_corrected(values):
    assert changes({A: PUBLIC}, {A: listed(A, **values)}).correct == [A]


def test_a_long_name_is_compared_as_glance_shows_it():
    key = Key("x" * 300 + ":1", "sha256:1")
    shown = "…" + key.name[-254:]
    assert changes({key: PUBLIC}, {key: listed(key, name=shown)}).correct == []


@pytest.mark.parametrize("check_members", [True, False])
def test_shared_images_are_corrected_when_members_are_to_be_checked(check_members):
    images = {A: listed(A, visibility="shared"), B: listed(B)}
    found = changes({A: SHARED, B: PUBLIC}, images, check_members)
    assert found.correct == ([A] if check_members else [])


def test_wanted_images_without_a_location_are_found():
    images = {A: listed(A, "queued"), B: listed(B, "queued"), MOVED: listed(MOVED)}
    wanted = {A: PUBLIC, MOVED: PUBLIC, Key("c:1", "sha256:1"): PUBLIC}
    assert compare.without_location(wanted, images) == [A]


def test_images_are_pending_until_glance_makes_them_active():
    images = {
        A: listed(A, "queued"),
        B: listed(B, "importing"),
        MOVED: listed(MOVED, "active"),
    }
    assert compare.pending(images) == [A, B]
