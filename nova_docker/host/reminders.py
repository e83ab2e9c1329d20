# SPDX-License-Identifier: Apache-2.0
"""Repeats the report of an exit that Nova may have dropped.

Nova drops a lifecycle event while it still starts the server. It compares each event
with the engine, so a report that it needs no more does no harm.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

#: Seconds after an exit at which it is reported again
AGAIN = (2, 6, 15, 40, 90)


class Reminders:
    """Reports the exits of servers again, all of them in one thread.

    :param report: called with a server's UUID
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._condition = threading.Condition()
        self._due: list[tuple[float, str, object]] = []
        self._exits: dict[str, object] = {}  # the last exit of each server
        self._running = False

    def add(self, uuid: str) -> None:
        """Report the exit of a server again, until it starts or is removed."""
        now = time.monotonic()
        exit_ = object()
        with self._condition:
            self._exits[uuid] = exit_
            for seconds in AGAIN:
                heapq.heappush(self._due, (now + seconds, uuid, exit_))
            self._condition.notify()
            if not self._running:
                self._running = True
                threading.Thread(
                    target=self._run, name="docker-reminders", daemon=True
                ).start()

    def drop(self, uuid: str) -> None:
        """Report the last exit of a server no more."""
        with self._condition:
            self._exits.pop(uuid, None)

    def stop(self) -> None:
        """Report nothing any more."""
        with self._condition:
            self._due.clear()
            self._exits.clear()
            self._condition.notify()

    def _run(self) -> None:
        while uuid := self._next():
            try:
                self._report(uuid)
            except Exception:
                # One report that fails must not stop the others.
                LOG.exception("Failed to report the exit of server %s again", uuid)

    def _next(self) -> str | None:
        """Wait for the next report that is due; None if there is none."""
        with self._condition:
            while self._due:
                due, uuid, exit_ = self._due[0]
                if self._exits.get(uuid) is not exit_:
                    heapq.heappop(self._due)
                elif (left := due - time.monotonic()) > 0:
                    self._condition.wait(left)
                else:
                    heapq.heappop(self._due)
                    return uuid
            self._exits.clear()
            self._running = False
            return None
