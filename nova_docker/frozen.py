# SPDX-License-Identifier: Apache-2.0
"""Which servers are frozen for a snapshot, and not because their user paused them.

The engine does not record why it has frozen a server. The marks are files below
``state_path``, which remain when nova-compute is killed during a snapshot: when it
starts again, it thaws these servers and no others.
"""

from __future__ import annotations

import contextlib
import os
import pathlib

from nova import conf as nova_conf

CONF = nova_conf.CONF

_DIRECTORY = "docker-snapshots"


def mark(uuid: str) -> None:
    """Note that a running server is about to be frozen for a snapshot."""
    path = _path(uuid)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch()


def forget(uuid: str) -> None:
    """Note that a server is not frozen for a snapshot, or no longer."""
    _path(uuid).unlink(missing_ok=True)


def is_marked(uuid: str) -> bool:
    """Return whether a server is frozen for a snapshot, or is about to be."""
    return _path(uuid).exists()


def marked() -> list[str]:
    """Return the UUIDs of all servers that are frozen for a snapshot."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(_path("")))
    return []


def _path(uuid: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _DIRECTORY, uuid)
