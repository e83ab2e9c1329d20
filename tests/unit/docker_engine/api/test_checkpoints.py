# SPDX-License-Identifier: Apache-2.0
"""Engines that write checkpoints which they cannot restore."""

from __future__ import annotations

import pytest

from docker_engine.api.checkpoints import restores


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "26.1.5", "27.5.1"])
def test_engines_before_docker_28_restore_checkpoints(version):
    assert restores(version)


@pytest.mark.parametrize("version", ["28.0.0", "28.5.2+dfsg4", "29.7.2", "dev", ""])
def test_newer_and_unknown_engines_do_not(version):
    assert not restores(version)
