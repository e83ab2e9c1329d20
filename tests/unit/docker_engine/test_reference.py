# SPDX-License-Identifier: Apache-2.0
"""The grammar of image names."""

from __future__ import annotations

import pytest

from docker_engine import reference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("pattern", "valid"),
    [
        (reference.HOST, "registry.example.org localhost a 10.0.0.1 a:5000 [::1]:5000"),
        (reference.HOST, "Registry.Example.ORG host:1 [fd00::1]"),
        (reference.REPOSITORY, "debian library/debian a/b/c a.b a_b a__b a-b a---b 0"),
        (reference.TAG, "latest 1.0 V_1 _ 12-slim " + "a" * 128),
        (reference.DIGEST, f"sha256:{HEX}"),
    ],
)
def test_valid_parts_of_a_name_match(pattern, valid):
    for text in valid.split():
        assert pattern.fullmatch(text), text


@pytest.mark.parametrize(
    ("pattern", "invalid"),
    [
        (reference.HOST, ["", "-a", "a-", "a.", "a:", "a:x", "a:123456", "a/b", "u@h"]),
        (reference.HOST, ["a b", "a\n", "[::1", "::1", "h\u00f6st"]),
        (
            reference.REPOSITORY,
            ["", "Debian", "a//b", "/a", "a/", "..", "a..b", "a___b"],
        ),
        (reference.REPOSITORY, ["a:1", "a@b", "a b", "a\n", "-a", "a-", "x" * 256]),
        (reference.TAG, ["", ".a", "-a", "a/b", "a:b", "a b", "a\n", "a" * 129]),
        (reference.DIGEST, ["", HEX, f"sha512:{HEX}", f"sha256:{HEX[1:]}"]),
        (
            reference.DIGEST,
            [f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"sha256:{HEX}\n"],
        ),
    ],
)
def test_invalid_parts_of_a_name_do_not_match(pattern, invalid):
    for text in invalid:
        assert not pattern.fullmatch(text), text


def test_a_repository_has_at_most_255_characters():
    assert reference.REPOSITORY.fullmatch("x" * 255)
    assert not reference.REPOSITORY.fullmatch("x/" * 127 + "xx")


def test_reserved_repositories_are_valid_and_never_change():
    """Hosts have images in them: an upgrade must find these again."""
    assert reference.RESERVED_REPOSITORIES == ("nova-glance", "nova-snapshot")
    for name in reference.RESERVED_REPOSITORIES:
        assert reference.REPOSITORY.fullmatch(name)


@pytest.mark.parametrize(
    ("name", "reserved"),
    [
        ("nova-glance/1:latest", True),
        ("nova-snapshot/1:latest", True),
        ("nova-glance:1", False),
        ("team/nova-glance/a:1", False),
    ],
)
def test_only_names_below_a_reserved_repository_are_reserved(name, reserved):
    assert reference.is_reserved(name) == reserved
