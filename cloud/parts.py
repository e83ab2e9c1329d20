# SPDX-License-Identifier: Apache-2.0
"""Parts of the cloud that are off by default; ``./quickstart up --PART`` adds one.

A part that has been added stays until the cloud is purged.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloud.state import state

# Each part with the help of its option. The names are also keys of the state file.
ALL = {
    "gvisor": "also install gVisor (Debian's runsc), for servers of the flavor "
    "docker.small.gvisor; servers that run keep running, and the cloud keeps it until "
    "it is purged",
    "heat": "also install Heat, which creates servers and networks from a template; "
    "the cloud keeps it until it is purged",
    "horizon": "also install Horizon, the dashboard, and serve it on 127.0.0.1; the "
    "cloud keeps it until it is purged",
}


def has(part: str) -> bool:
    """Return whether the cloud has one of ``ALL``."""
    return bool(state.get(part))


def add(wanted: Mapping[str, bool]) -> None:
    """Give the cloud the parts whose value is true."""
    for part, is_wanted in wanted.items():
        if is_wanted:
            state.set(part, True)
