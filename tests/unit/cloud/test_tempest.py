# SPDX-License-Identifier: Apache-2.0
"""cloud/tempest/skips.toml, the list of tests that do not run."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

SKIPS = pathlib.Path(__file__).parents[3] / "cloud/tempest/skips.toml"
ENTRIES = tomllib.loads(SKIPS.read_text())


@pytest.mark.parametrize(("kind", "key"), [("left_out", "tests"), ("skipped", "says")])
def test_each_entry_has_a_pattern_and_a_reason(kind, key):
    assert ENTRIES[kind]
    for entry in ENTRIES[kind]:
        assert set(entry) == {key, "reason"}
        assert entry["reason"].strip().endswith(".")
        # A pattern that matches every test would hide failures.
        assert not re.search(entry[key], "tempest.api.compute.servers.a.B.test_c")


def test_there_are_no_other_kinds_of_entries():
    assert set(ENTRIES) == {"left_out", "skipped"}
