# SPDX-License-Identifier: Apache-2.0
"""Nova's power states for the engine's container states."""

from __future__ import annotations

from nova.compute import power_state

_POWER_STATES = {
    "created": power_state.SHUTDOWN,
    "running": power_state.RUNNING,
    "paused": power_state.PAUSED,
    "restarting": power_state.RUNNING,
    "removing": power_state.SHUTDOWN,
    "exited": power_state.SHUTDOWN,
    "dead": power_state.CRASHED,
}


def power_state_of(status: str) -> int:
    """Return Nova's power state for the engine's ``State.Status``."""
    return _POWER_STATES.get(status, power_state.NOSTATE)
