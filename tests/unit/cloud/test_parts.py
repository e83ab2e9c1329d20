# SPDX-License-Identifier: Apache-2.0
"""The parts of the cloud that are off by default."""

from __future__ import annotations

import pytest

from cloud import parts
from cloud.state import State


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "state", State(tmp_path / "memory.json"))


def test_a_new_cloud_has_no_part():
    assert not any(map(parts.has, parts.ALL))


@pytest.mark.parametrize("part", parts.ALL)
def test_a_part_stays_until_the_cloud_is_purged(part):
    parts.add({part: True})
    parts.add(dict.fromkeys(parts.ALL, False))
    assert [each for each in parts.ALL if parts.has(each)] == [part]
