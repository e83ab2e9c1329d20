# SPDX-License-Identifier: Apache-2.0
"""The mock engine's event stream."""

from __future__ import annotations

import copy
import queue
from collections.abc import Iterator
from typing import Any
from typing import Self

from docker_engine.api.base import Filters
from docker_engine.mock.filters import among
from docker_engine.mock.filters import has_labels


class MockEventStream(Iterator[dict[str, Any]]):
    """See :class:`docker_engine.streams.events.EventStream`."""

    def __init__(self, filters: Filters) -> None:
        self._filters = filters
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._closed = False

    def put(self, event: dict[str, Any]) -> bool:
        """Queue an event if it passes the filters; return False once closed."""
        actor = event["Actor"]
        wanted = self._filters
        if (
            among(event["Action"], wanted.get("event"))
            and among(event["Type"], wanted.get("type"))
            and has_labels(actor["Attributes"], wanted.get("label", ()))
            and (
                among(actor["ID"], wanted.get("container"))
                or among(actor["Attributes"]["name"], wanted.get("container"))
            )
        ):
            self._events.put(event)
        return not self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> dict[str, Any]:
        event = None if self._closed else self._events.get()
        if event is None or self._closed:
            raise StopIteration
        return copy.deepcopy(event)

    def close(self) -> None:
        self._closed = True
        self._events.put(None)
