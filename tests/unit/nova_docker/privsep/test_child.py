# SPDX-License-Identifier: Apache-2.0
"""Children that change themselves for good."""

from __future__ import annotations

import os

import pytest

from nova_docker.privsep import child


def test_what_a_child_does_to_itself_does_not_affect_its_parent():
    before = os.getcwd()
    child.run(lambda: os.chdir("/"))
    assert os.getcwd() == before


def test_a_failure_of_a_child_is_raised_as_its_own():
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        child.run(lambda: os.chdir("/no/such/directory"))


def test_a_child_that_fails_otherwise_does_not_go_on_as_its_parent():
    def fail():
        raise ValueError

    parent = os.getpid()
    with pytest.raises(RuntimeError, match="status"):
        child.run(fail)
    assert os.getpid() == parent
