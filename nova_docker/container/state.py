# SPDX-License-Identifier: Apache-2.0
"""What the engine says of a container: its power state for Nova, and its execs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

# A command that never ends stays on the engine until its container stops, and costs
# the engine memory and descriptors outside the container's limits.
MAX_EXECS = 64


def power_state_of(status: str) -> int:
    """Return Nova's power state for the engine's ``State.Status``."""
    return _POWER_STATES.get(status, power_state.NOSTATE)


def has_too_many_execs(found: Mapping[str, Any]) -> bool:
    """Return whether no more commands may be started in a container.

    :param found: the response of GET /containers/{id}/json
    """
    return len(found.get("ExecIDs") or ()) >= MAX_EXECS
