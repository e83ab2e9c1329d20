# SPDX-License-Identifier: Apache-2.0
"""What ./quickstart does not take; tests/cloud is the test of what it does."""

from __future__ import annotations

import pytest

from cloud import __main__ as quickstart


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["env", "nobody"], "nobody: the users are admin and demo"),
        (["env", "demo", "demo"], "too many words: demo demo"),
        (["status", "now"], "too many words: now"),
        (["down", "--prge"], "--prge: the only option of down is --purge"),
        (["down", "--purge", "now"], "too many words: --purge now"),
    ],
)
def test_a_word_that_means_nothing_is_refused(monkeypatch, words, why):
    monkeypatch.setattr("sys.argv", ["quickstart", *words])
    with pytest.raises(SystemExit, match=why):
        quickstart.main()
