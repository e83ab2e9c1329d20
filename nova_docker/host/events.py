# SPDX-License-Identifier: Apache-2.0
"""Reports the engine's events to Nova as lifecycle events.

With them, a server becomes SHUTOFF as soon as its first process exits. Nova's periodic
synchronisation of power states would notice only up to ten minutes later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from nova.compute import power_state
from nova.virt import event as virtevent
from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import init
from nova_docker.container import naming
from nova_docker.container import state as states
from nova_docker.host.reminders import Reminders

LOG = logging.getLogger(__name__)

RECONNECT_INTERVAL = 1  # seconds

# An exit so many seconds after the start may come while Nova still starts the server.
_SOON = 60

# By action of an engine's event: the resulting power state, and Nova's transition.
_ACTIONS = {
    "start": (power_state.RUNNING, virtevent.EVENT_LIFECYCLE_STARTED),
    "die": (power_state.SHUTDOWN, virtevent.EVENT_LIFECYCLE_STOPPED),
    "pause": (power_state.PAUSED, virtevent.EVENT_LIFECYCLE_PAUSED),
    "unpause": (power_state.RUNNING, virtevent.EVENT_LIFECYCLE_RESUMED),
}
# Nova's transitions to each power state, for changes whose event was missed.
_TRANSITIONS = {
    power_state.RUNNING: virtevent.EVENT_LIFECYCLE_STARTED,
    power_state.SHUTDOWN: virtevent.EVENT_LIFECYCLE_STOPPED,
    power_state.CRASHED: virtevent.EVENT_LIFECYCLE_STOPPED,
    power_state.PAUSED: virtevent.EVENT_LIFECYCLE_PAUSED,
}


class LifecycleEvents:
    """Follows the engine's events in a thread for as long as nova-compute runs.

    After a break in the stream, compares the states of all servers with those last
    seen, and reports the differences.
    """

    def __init__(
        self,
        client: DockerClient,
        emit: Callable[[virtevent.Event], None],
        reboot: Callable[[str], None],
    ) -> None:
        """
        :param emit: ComputeDriver.emit_event
        :param reboot: :meth:`nova_docker.reboots.Reboots.begin`
        """
        self._client = client
        self._emit = emit
        self._reboot = reboot
        self._stopping = threading.Event()
        self._stream: Any = None
        self._started: dict[str, float] = {}  # when, by UUID
        self._reminders = Reminders(
            lambda uuid: self._report({uuid: virtevent.EVENT_LIFECYCLE_STOPPED})
        )
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it is running."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._follow, name="docker-events", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopping.set()
        self._reminders.stop()
        if stream := self._stream:
            stream.close()
        if self._thread:
            self._thread.join()

    def _follow(self) -> None:
        # Power states by UUID. At start-up, Nova itself compares those of all servers.
        seen: dict[str, int] | None = None
        lost = False
        while not self._stopping.is_set():
            try:
                # The stream is opened before the states are compared, so that it has
                # whatever happens during the comparison.
                with self._client.events(
                    filters={
                        **naming.SERVERS,
                        "type": ["container"],
                        "event": [*_ACTIONS, "destroy"],
                    }
                ) as self._stream:
                    if self._stopping.is_set():
                        # stop() came too early to close this stream.
                        break
                    servers = self._servers()
                    found = {
                        uuid: states.power_state_of(item["State"])
                        for uuid, item in servers.items()
                    }
                    if lost:
                        LOG.info("Following the Docker engine's event stream again")
                        lost = False
                        # Nova has compared the states before this could: any may have
                        # changed since.
                        seen = {} if seen is None else seen
                    before, seen = seen, found
                    if before is not None:
                        self._report_missed(before, found, servers)
                    for event in self._stream:
                        self._handle(event, seen)
            except errors.DockerError as error:
                # Once, and not each second for as long as the engine is away.
                if not lost:
                    LOG.warning(
                        "Lost the Docker engine's event stream; reconnecting: %s", error
                    )
                lost = True
            except Exception:
                # One event that cannot be handled must not stop the others.
                LOG.exception(
                    "Failed to handle an event of the Docker engine; reconnecting"
                )
            self._stopping.wait(RECONNECT_INTERVAL)

    def _servers(self) -> dict[str, dict[str, Any]]:
        return naming.by_uuid(self._client.list_containers(filters=naming.SERVERS))

    def _report_missed(
        self,
        before: Mapping[str, int],
        found: Mapping[str, int],
        servers: Mapping[str, Mapping[str, Any]],
    ) -> None:
        transitions = missed(before, found)
        for uuid, item in servers.items():
            if uuid in transitions and init.is_listed_as_rebooted(item):
                del transitions[uuid]
                self._reboot(uuid)
        self._report(transitions)

    def _handle(self, event: Mapping[str, Any], seen: dict[str, int]) -> None:
        """Report one event of the stream, and record the server's new state."""
        attributes = event["Actor"]["Attributes"]
        uuid = naming.uuid_of(attributes, [attributes.get("name", "")])
        if uuid is None:
            return
        if event["Action"] == "destroy":
            seen.pop(uuid, None)
            self._reminders.drop(uuid)
            return
        seen[uuid], transition = _ACTIONS[event["Action"]]
        if event["Action"] == "die" and init.may_reboot(attributes):
            self._started.pop(uuid, None)
            self._reboot(uuid)
            return
        self._report({uuid: transition})
        if event["Action"] == "start":
            self._started[uuid] = time.monotonic()
            self._reminders.drop(uuid)
        elif event["Action"] == "die":
            started = self._started.pop(uuid, -_SOON)
            if time.monotonic() - started < _SOON:
                self._reminders.add(uuid)

    def report_stop(self, uuid: str) -> None:
        """Report that a server stays stopped, whatever Nova does with it meanwhile."""
        self._report({uuid: virtevent.EVENT_LIFECYCLE_STOPPED})
        self._reminders.add(uuid)

    def _report(self, transitions: Mapping[str, int]) -> None:
        for uuid, transition in transitions.items():
            self._emit(virtevent.LifecycleEvent(uuid, transition))


def missed(seen: Mapping[str, int], found: Mapping[str, int]) -> dict[str, int]:
    """Return the transitions to report after a break in the event stream, by UUID.

    A server that no longer exists counts as shut down. Only servers that were and are
    running are left out. Others are reported again: Nova checks each event with the
    engine and drops it if that fails, as it does for the last events of an engine that
    is shutting down.

    :param seen: power states before the break, by UUID
    :param found: power states after it, by UUID
    """
    now = dict.fromkeys(seen, power_state.SHUTDOWN) | dict(found)
    return {
        uuid: _TRANSITIONS[state]
        for uuid, state in now.items()
        if state in _TRANSITIONS and not state == seen.get(uuid) == power_state.RUNNING
    }
