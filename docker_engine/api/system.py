# SPDX-License-Identifier: Apache-2.0
"""The engine itself: version, information, events."""

from __future__ import annotations

from typing import Any

from docker_engine.api.base import Endpoints
from docker_engine.api.base import Filters
from docker_engine.api.base import filter_query
from docker_engine.streams.events import EventStream


class SystemAPI(Endpoints):
    """Endpoints under "System"."""

    @property
    def api_version(self) -> str:
        """The API version that calls use, negotiated by the first call.

        :raises UnsupportedVersion: if engine and client have none in common
        """
        return self._transport.api_version

    def ping(self) -> None:
        """GET /_ping"""
        self._transport.request("GET", "/_ping", versioned=False)

    def version(self) -> dict[str, Any]:
        """GET /version"""
        return self._transport.get("/version", versioned=False)

    def info(self) -> dict[str, Any]:
        """GET /info"""
        return self._transport.get("/info")

    def events(
        self, *, since: float | None = None, filters: Filters | None = None
    ) -> EventStream:
        """GET /events

        :param since: Unix time; the events that the engine remembers since then come
            first. Without it, events in the moment after this returns may be missing.
        """
        query = filter_query(filters)
        if since is not None:
            query["since"] = f"{since:.9f}"
        timeout = (self._transport.connect_timeout, None)
        return EventStream(
            self._transport.stream("GET", "/events", query, timeout=timeout)
        )
