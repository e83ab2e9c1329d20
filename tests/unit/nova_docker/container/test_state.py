# SPDX-License-Identifier: Apache-2.0
"""The engine's states as Nova's power states."""

from __future__ import annotations

import pytest
from nova.compute import power_state

from nova_docker.container.state import power_state_of


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("created", power_state.SHUTDOWN),
        ("running", power_state.RUNNING),
        ("paused", power_state.PAUSED),
        ("exited", power_state.SHUTDOWN),
        ("dead", power_state.CRASHED),
        ("what-comes-next", power_state.NOSTATE),
    ],
)
def test_the_engines_states_are_novas(status, state):
    assert power_state_of(status) == state
