# SPDX-License-Identifier: Apache-2.0
"""Volumes: storage of the engine that outlives containers."""

from __future__ import annotations

from typing import Any

from docker_engine import errors
from docker_engine.api.base import Endpoints
from docker_engine.api.base import Filters
from docker_engine.api.base import filter_query
from docker_engine.api.base import path


class VolumesAPI(Endpoints):
    """Endpoints of volumes. Containers create and remove their anonymous ones."""

    def list_volumes(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        """GET /volumes

        :param filters: for example ``{"label": ["key"], "dangling": ["true"]}``; a
            volume is dangling if no container uses it
        :returns: the ``Volumes`` of the response
        """
        found = self._transport.get("/volumes", filter_query(filters))
        return found["Volumes"] or []

    def remove_volume(self, name: str) -> None:
        """DELETE /volumes/{name}

        :raises VolumeNotFound: if there is no such volume
        :raises Conflict: if a container uses it, or the engine takes it to be mounted
        """
        self._transport.request(
            "DELETE", path("volumes", name), missing=errors.VolumeNotFound
        )
