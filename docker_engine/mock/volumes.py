# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.volumes`."""

from __future__ import annotations

from typing import Any

from docker_engine import errors
from docker_engine.api.base import Filters
from docker_engine.mock.filters import among
from docker_engine.mock.filters import check_filters
from docker_engine.mock.filters import has_labels
from docker_engine.mock.state import MockState


class MockVolumes(MockState):
    def list_volumes(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        self._call("list_volumes")
        check_filters(filters, "dangling", "label")
        wanted = filters or {}
        with self._lock:
            used = self._used_volumes()
            return [
                {"Name": name, "Labels": dict(labels)}
                for name, labels in self._volumes.items()
                if has_labels(labels, wanted.get("label", ()))
                and among(str(name not in used).lower(), wanted.get("dangling"))
            ]

    def remove_volume(self, name: str) -> None:
        self._call("remove_volume")
        with self._lock:
            if name in self._used_volumes():
                raise errors.for_status(409, f"remove {name}: volume is in use")
            if self._volumes.pop(name, None) is None:
                raise errors.for_status(
                    404, f"get {name}: no such volume", missing=errors.VolumeNotFound
                )
