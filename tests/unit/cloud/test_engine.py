# SPDX-License-Identifier: Apache-2.0
"""The command line of the quickstart's engine."""

from __future__ import annotations

import pytest

from cloud import engine


@pytest.mark.parametrize(
    ("wanted", "runtimes"),
    [(None, ["nova"]), (True, ["nova", "nova-gvisor"])],
)
def test_gvisor_is_a_runtime_only_if_it_is_wanted(monkeypatch, wanted, runtimes):
    monkeypatch.setattr(
        type(engine.state), "get", lambda self, key, default=None: wanted
    )
    words = engine.command().split()
    added = [w.partition("=")[2] for w in words if w.startswith("--add-runtime=")]
    assert [each.partition("=")[0] for each in added] == runtimes
    assert all("/nova-docker-" in each for each in added)
