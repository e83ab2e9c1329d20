# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.checkpoints`."""

from __future__ import annotations

from docker_engine import errors
from docker_engine.mock.state import MockState


class MockCheckpoints(MockState):
    def create_checkpoint(self, ref: str, checkpoint: str) -> None:
        self._call("create_checkpoint")
        with self._lock:
            container = self._find(ref)
            if not container["State"]["Running"]:
                raise errors.for_status(500, f"Container {ref} not running")
            self._checkpoints.setdefault(container["Id"], set()).add(checkpoint)
            self._stopped(container, 137)

    def list_checkpoints(self, ref: str) -> list[str]:
        self._call("list_checkpoints")
        with self._lock:
            return sorted(self._checkpoints.get(self._find(ref)["Id"], ()))

    def delete_checkpoint(self, ref: str, checkpoint: str) -> None:
        self._call("delete_checkpoint")
        with self._lock:
            container = self._find(ref)
            self._check_checkpoint(container, checkpoint)
            self._checkpoints[container["Id"]].remove(checkpoint)
