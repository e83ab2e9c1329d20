# SPDX-License-Identifier: Apache-2.0
"""The kernel's limits that all servers share with the host."""

from __future__ import annotations

import contextlib
import pathlib

from cloud import settings
from cloud.state import state

# What an operator installs on a compute host.
FILE = settings.SOURCE / "etc/sysctl.d/60-nova-docker.conf"
SYSCTLS = pathlib.Path("/proc/sys")

_KEY = "sysctls"


def wanted() -> dict[str, int]:
    """Return the value that each sysctl should at least have."""
    lines = (line.partition("#")[0] for line in FILE.read_text().splitlines())
    pairs = (line.split("=") for line in lines if "=" in line)
    return {name.strip(): int(value) for name, value in pairs}


def raise_limits() -> None:
    """Raise the limits that are too low, and remember what they were.

    Nothing is lowered. Where the kernel does not allow a change, nova-compute warns
    when it starts.
    """
    for name, value in wanted().items():
        path = _path(name)
        with contextlib.suppress(OSError):
            before = int(path.read_text())
            if _is_too_low(before, value):
                path.write_text(str(value))
                known = state.get(_KEY, {})
                original, _ = known.get(name, (before, value))
                state.set(_KEY, {**known, name: [original, value]})


def restore() -> None:
    """Undo :func:`raise_limits`, except what somebody has changed since."""
    for name, (before, written) in state.get(_KEY, {}).items():
        path = _path(name)
        with contextlib.suppress(OSError):
            if int(path.read_text()) == written:
                path.write_text(str(before))
    state.set(_KEY, {})


def _path(name: str) -> pathlib.Path:
    return SYSCTLS / name.replace(".", "/")


def _is_too_low(value: int, wanted: int) -> bool:
    # 0 is no limit.
    return value != 0 if wanted == 0 else value < wanted
