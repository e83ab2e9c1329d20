# SPDX-License-Identifier: Apache-2.0
"""Follow the engine's events, and reconcile Glance after each."""

from __future__ import annotations

import threading
import time
from typing import Any

from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from glance_docker.gateway import GatewayError
from glance_docker.sync.reconcile import Reconciler
from glance_docker.sync.reconcile import WouldRemove

LOG = logging.getLogger(__name__)

# Seconds before a retry after a failure.
RETRY_INTERVAL = 2
# Seconds before Glance is asked which images it has made active.
SETTLE_INTERVAL = 5


class Follower:
    """Reconciles Glance as the engine's images change, until it is stopped.

    Engine call: "GET /events"

    :param refresh_interval: seconds between the times when Glance is asked what it
        has
    """

    def __init__(
        self, client: DockerClient, reconciler: Reconciler, refresh_interval: float
    ) -> None:
        self._client = client
        self._reconciler = reconciler
        self._refresh_interval = refresh_interval
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._stream: Any = None
        self._trouble = ""

    def stop(self) -> None:
        """Make :meth:`run` return. May be called from a signal handler."""
        self._stopping.set()
        self._woken.set()
        if self._stream:
            self._stream.close()

    def run(self) -> None:
        """Reconcile until :meth:`stop` is called.

        :raises WouldRemove: in the first run
        """
        watcher = threading.Thread(target=self._watch, name="events", daemon=True)
        watcher.start()
        due = 0.0  # monotonic time of the next refresh
        while not self._stopping.is_set():
            self._woken.clear()
            now = time.monotonic()
            try:
                self._reconciler.run(refresh=now >= due)
                if now >= due:
                    due = now + self._refresh_interval
                settled = self._reconciler.settle()
            except (errors.DockerError, GatewayError) as error:
                self._report(f"Cannot reconcile Glance with the engine: {error}")
                due = 0
            except WouldRemove:
                self.stop()
                watcher.join()
                raise
            except Exception:
                LOG.exception("Unexpected error; will retry")
                due = 0
            else:
                self._report("")
                self._woken.wait(due - now if settled else SETTLE_INTERVAL)
                continue
            self._stopping.wait(RETRY_INTERVAL)
        watcher.join()

    def _report(self, trouble: str) -> None:
        """Log trouble when it begins and when it ends, not on each retry."""
        if trouble and trouble != self._trouble:
            LOG.warning("%s", trouble)
        elif self._trouble and not trouble:
            LOG.info("Glance can be reconciled with the engine again")
        self._trouble = trouble

    def _watch(self) -> None:
        lost = False
        while not self._stopping.is_set():
            try:
                with self._client.events(filters={"type": ["image"]}) as self._stream:
                    if self._stopping.is_set():
                        break
                    lost = False
                    # Something may have changed while the stream was down.
                    self._woken.set()
                    for _ in self._stream:
                        self._woken.set()
            except errors.DockerError as error:
                if not lost:
                    LOG.warning("Lost the engine's event stream: %s", error)
                lost = True
            self._stopping.wait(RETRY_INTERVAL)
