# SPDX-License-Identifier: Apache-2.0
"""Nova's power states for the engine's container states."""

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
        ("a-state-of-a-future-engine", power_state.NOSTATE),
    ],
)
def test_each_state_of_the_engine_has_a_power_state(status, state):
    assert power_state_of(status) == state
