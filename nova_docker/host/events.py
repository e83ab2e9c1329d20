# SPDX-License-Identifier: Apache-2.0
"""The engine's event stream, told to Nova as lifecycle events.

This is how a server whose first process has exited shows as SHUTOFF at once,
and not at the next ten-minute synchronisation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nova.compute import power_state
from nova.virt import event as virtevent
from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import naming
from nova_docker.container import state as states

LOG = logging.getLogger(__name__)

RECONNECT_INTERVAL = 1  # seconds

_STATES = {
    "start": power_state.RUNNING,
    "die": power_state.SHUTDOWN,
    "pause": power_state.PAUSED,
    "unpause": power_state.RUNNING,
}
_EVENTS = {
    power_state.RUNNING: virtevent.EVENT_LIFECYCLE_STARTED,
    power_state.SHUTDOWN: virtevent.EVENT_LIFECYCLE_STOPPED,
    power_state.CRASHED: virtevent.EVENT_LIFECYCLE_STOPPED,
    power_state.PAUSED: virtevent.EVENT_LIFECYCLE_PAUSED,
}


class LifecycleEvents:
    """Follows the engine for as long as nova-compute runs.

    After the engine was away, what happened meanwhile is found by comparing
    the servers' states with the last that were seen.
    """

    def __init__(
        self, client: DockerClient, emit: Callable[[virtevent.Event], None]
    ) -> None:
        """:param emit: ComputeDriver.emit_event"""
        self._client = client
        self._emit = emit
        self._seen: dict[str, int] | None = None  # power state by uuid
        self._stopping = threading.Event()
        self._stream: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow from now on; nothing happens when it does already."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._follow, name="docker-events", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stopping.set()
        if stream := self._stream:
            stream.close()
        if self._thread:
            self._thread.join()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            try:
                # The stream is opened first: what happens while the states
                # are compared waits in it, and nothing falls between.
                with self._client.events(
                    filters={
                        **naming.SERVERS,
                        "type": ["container"],
                        "event": [*_STATES, "destroy"],
                    }
                ) as self._stream:
                    if self._stopping.is_set():
                        # Before there was a stream that could have been closed.
                        break
                    self._catch_up()
                    for event in self._stream:
                        self._tell(event)
            except errors.DockerError as error:
                LOG.warning("Lost the events of the Docker engine: %s", error)
            except Exception:
                # Whatever one event does wrong, the next must still arrive.
                LOG.exception("Following the events of the Docker engine failed")
            self._stopping.wait(RECONNECT_INTERVAL)

    def _catch_up(self) -> None:
        found = {
            uuid: states.power_state_of(item["State"])
            for uuid, item in naming.by_uuid(
                self._client.list_containers(filters=naming.SERVERS)
            ).items()
        }
        seen, self._seen = self._seen, found
        if seen is None:
            # Nova compares all servers itself when it starts.
            return
        for uuid in seen | found:
            state = found.get(uuid, power_state.SHUTDOWN)
            # What does not run is told again: Nova asks the engine before it
            # believes an event, and an engine that is stopping tells of the end
            # of its servers when it answers no more.
            told = state == seen.get(uuid) == power_state.RUNNING
            if not told and state in _EVENTS:
                self._emit(virtevent.LifecycleEvent(uuid, _EVENTS[state]))

    def _tell(self, event: dict[str, Any]) -> None:
        uuid = naming.uuid_of(event["Actor"]["Attributes"])
        assert self._seen is not None
        if event["Action"] == "destroy":
            self._seen.pop(uuid, None)
            return
        state = _STATES[event["Action"]]
        transition = (
            virtevent.EVENT_LIFECYCLE_RESUMED
            if event["Action"] == "unpause"
            else _EVENTS[state]
        )
        self._seen[uuid] = state
        self._emit(virtevent.LifecycleEvent(uuid, transition))
