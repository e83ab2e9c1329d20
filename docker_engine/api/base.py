# SPDX-License-Identifier: Apache-2.0
"""What the parts of the API share: paths, query parameters, the transport."""

from __future__ import annotations

import json
from collections.abc import Mapping
from collections.abc import Sequence
from urllib import parse

from docker_engine.transport.http import Transport

Filters = Mapping[str, Sequence[str]]


class Endpoints:
    """One part of the API. The client that combines all parts sets the transport."""

    _transport: Transport

    def _within(self, seconds: float | None) -> tuple[float, float] | None:
        """Return the timeouts of a call that waits so long; None for the usual."""
        return None if seconds is None else (self._transport.connect_timeout, seconds)


def path(*parts: str) -> str:
    """Return the quoted path of an endpoint."""
    # The engine expects the slashes of an image's name as they are.
    return "/" + "/".join(parse.quote(part, safe="/:@") for part in parts)


def flag(value: bool) -> str:
    """Return a boolean as a query parameter."""
    return "1" if value else "0"


def filter_query(filters: Filters | None) -> dict[str, str]:
    """Return the query parameter ``filters``, or nothing if there are none."""
    if not filters:
        return {}
    return {"filters": json.dumps({key: list(v) for key, v in filters.items()})}
