# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the processes of a container on disk (experimental engines only)."""

from __future__ import annotations

import re

from docker_engine import errors
from docker_engine.api.base import Endpoints
from docker_engine.api.base import path
from docker_engine.transport.http import LONG_TIMEOUT

# Docker from 28 on attaches the network before the restored process exists, and fails:
# https://github.com/containerd/containerd/issues/12141
_CANNOT_RESTORE = 28


def restores(version: str) -> bool:
    """Tell whether an engine can restore the checkpoints that it writes.

    :param version: ``ServerVersion`` of GET /info
    """
    major = re.match(r"\d+", version)
    return major is not None and int(major[0]) < _CANNOT_RESTORE


class CheckpointsAPI(Endpoints):
    """Endpoints of checkpoints; restoring one is a way to start a container.

    All raise :class:`errors.ContainerNotFound` if there is no such container.
    """

    def create_checkpoint(self, ref: str, checkpoint: str) -> None:
        """POST /containers/{ref}/checkpoints: write its processes to disk

        The processes end once they are written. If they cannot be written, they keep
        running.

        :raises Conflict: or EngineError, depending on the engine: it is not running
        :raises EngineError: also if CRIU cannot do it
        """
        self._transport.request(
            "POST",
            path("containers", ref, "checkpoints"),
            json={"CheckpointID": checkpoint, "Exit": True},
            missing=errors.ContainerNotFound,
            timeout=(self._transport.connect_timeout, LONG_TIMEOUT),
            repeat=False,
        )

    def list_checkpoints(self, ref: str) -> list[str]:
        """GET /containers/{ref}/checkpoints: return their names

        :raises EngineError: also if the engine is not experimental
        """
        found = self._transport.get(
            path("containers", ref, "checkpoints"), missing=errors.ContainerNotFound
        )
        return [checkpoint["Name"] for checkpoint in found or ()]

    def delete_checkpoint(self, ref: str, checkpoint: str) -> None:
        """DELETE /containers/{ref}/checkpoints/{checkpoint}

        :raises EngineError: also if there is no such checkpoint
        """
        self._transport.request(
            "DELETE",
            path("containers", ref, "checkpoints", checkpoint),
            missing=errors.ContainerNotFound,
            repeat=False,
        )
