# SPDX-License-Identifier: Apache-2.0
"""The list of what Tempest does not test on the quickstart's cloud."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

SKIPS = pathlib.Path(__file__).parents[3] / "cloud/tempest/skips.toml"
ENTRIES = tomllib.loads(SKIPS.read_text())


@pytest.mark.parametrize(("kind", "key"), [("left_out", "tests"), ("skipped", "says")])
def test_each_entry_says_what_and_why(kind, key):
    assert ENTRIES[kind]
    for entry in ENTRIES[kind]:
        assert set(entry) == {key, "reason"}
        assert entry["reason"].strip().endswith(".")
        # Not what would leave out, or excuse, everything.
        assert not re.search(entry[key], "tempest.api.compute.servers.a.B.test_c")


def test_there_is_no_other_kind():
    assert set(ENTRIES) == {"left_out", "skipped"}
