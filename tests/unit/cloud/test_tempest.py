# SPDX-License-Identifier: Apache-2.0
"""Tempest's configuration, and the list of tests that do not run."""

from __future__ import annotations

import configparser
import pathlib
import re
import tomllib

import pytest

DIRECTORY = pathlib.Path(__file__).parents[3] / "cloud/tempest"
SKIPS = DIRECTORY / "skips.toml"
ENTRIES = tomllib.loads(SKIPS.read_text())


KINDS = {"left_out": "tests", "left_out_without_lxcfs": "tests", "skipped": "says"}


@pytest.mark.parametrize(("kind", "key"), KINDS.items())
def test_each_entry_has_a_pattern_and_a_reason(kind, key):
    assert ENTRIES[kind]
    for entry in ENTRIES[kind]:
        assert set(entry) == {key, "reason"}
        assert entry["reason"].strip().endswith(".")
        # A pattern that matches every test would hide failures.
        assert not re.search(entry[key], "tempest.api.compute.servers.a.B.test_c")


def test_there_are_no_other_kinds_of_entries():
    assert set(ENTRIES) == set(KINDS)


def test_what_the_driver_can_do_is_written_once():
    cloud, features = (configparser.ConfigParser(interpolation=None) for _ in range(2))
    cloud.read(DIRECTORY / "tempest.conf")
    features.read(DIRECTORY / "features.conf")
    assert features.sections()
    for section in features.sections():
        assert not set(features[section]) & set(
            cloud[section] if cloud.has_section(section) else ()
        )
        # A DevStack has the file too, and replaces no names in it.
        assert not [value for value in features[section].values() if "$" in value]
