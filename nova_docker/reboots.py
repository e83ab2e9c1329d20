# SPDX-License-Identifier: Apache-2.0
"""Starts servers again whose systemd has rebooted them.

To a virtual machine, a reboot from inside is a reset that Nova does not notice. The
kernel ends a container instead. Nova would take its end for a shutdown: so it is not
told, and the server starts again, unless Nova is about to do something else with it.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

from nova import conf as nova_conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import task_states
from nova.compute import vm_states
from oslo_concurrency import lockutils
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker.guest import Guest
from nova_docker.guest import rebooted
from nova_docker.power import Power

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# A server that reboots again so soon after its last start has to wait, each time twice
# as long: a start is work of the host.
_SOON = 60
_MOST = 60

_RETRY_INTERVAL = 10

_RUNNING = (vm_states.ACTIVE, vm_states.RESCUED, vm_states.RESIZED)
# Nova's tasks during which it neither stops nor starts a server
_HARMLESS = (
    None,
    task_states.IMAGE_SNAPSHOT_PENDING,
    task_states.IMAGE_SNAPSHOT,
    task_states.IMAGE_PENDING_UPLOAD,
    task_states.IMAGE_UPLOADING,
    task_states.IMAGE_BACKUP,
    task_states.UPDATING_PASSWORD,
)


def should_run(instance: objects.Instance) -> bool:
    """Return whether a server runs, as far as Nova is concerned."""
    return instance.vm_state in _RUNNING and instance.task_state in _HARMLESS


def delay(last: float, before: float) -> float:
    """Return how many seconds a server waits before it starts again.

    :param last: seconds since it was last started after a reboot
    :param before: how many it waited then
    """
    return min(max(2 * before, 1), _MOST) if last < _SOON else 0


class Reboots:
    """The reboots of one host's servers. Several threads may use it."""

    def __init__(self, client: DockerClient, power: Power) -> None:
        self._client = client
        self._power = power
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        # UUIDs, and whether the server has rebooted once more since
        self._pending: dict[str, bool] = {}
        # When a server was last started, and how long it had waited, by UUID
        self._starts: dict[str, tuple[float, float]] = {}
        self._recovered = False

    def begin(
        self, uuid: str, otherwise: Callable[[str], None] = lambda uuid: None
    ) -> None:
        """Start a server again, in a thread of its own, unless one is at it already.

        :param otherwise: called with the UUID if the server stays stopped
        """
        with self._lock:
            if uuid in self._pending:
                self._pending[uuid] = True
                return
            self._pending[uuid] = True
        threading.Thread(
            target=self._run,
            args=(uuid, otherwise),
            name=f"docker-reboot-{uuid}",
            daemon=True,
        ).start()

    def recover(self) -> None:
        """Start the servers that have rebooted while nova-compute did not run.

        Only the first call does, which comes after Nova has plugged their NICs. If the
        engine fails, the next one does.
        """
        if self._recovered:
            return
        try:
            servers = rebooted(self._client)
        except exception.NovaException as error:
            LOG.warning("Failed to look for servers that have rebooted: %s", error)
            return
        for uuid in servers:
            self.begin(uuid)
        self._recovered = True

    def hides(self, instance: objects.Instance) -> bool:
        """Return whether a server that is stopped is just about to start again."""
        with self._lock:
            return instance.uuid in self._pending and should_run(instance)

    def settle(self, instance: objects.Instance) -> None:
        """Wait for the start of a server that has begun.

        None begins later: Nova has recorded already what it is going to do.
        """
        with _starting(instance.uuid):
            pass

    def stop(self) -> None:
        """Start no more servers."""
        self._stopping.set()

    def _run(self, uuid: str, otherwise: Callable[[str], None]) -> None:
        started = True
        while started and self._is_next(uuid):
            try:
                started = self._restart(uuid)
            except Exception:
                LOG.exception("Failed to start server %s, which has rebooted", uuid)
                started = False
        if not started:
            with self._lock:
                del self._pending[uuid]
            if not self._stopping.is_set():
                otherwise(uuid)

    def _is_next(self, uuid: str) -> bool:
        """Return whether a server has rebooted, and forget it if not."""
        with self._lock:
            if self._pending[uuid]:
                self._pending[uuid] = False
                return True
            del self._pending[uuid]
            return False

    def _restart(self, uuid: str) -> bool:
        """Wait and start a server; return whether it runs."""
        seconds = self._delay(uuid)
        if seconds:
            LOG.warning(
                "Server %s reboots again and again: it starts in %d s", uuid, seconds
            )
        if self._stopping.wait(seconds):
            return False
        # Nova locks the plain UUID, too, while it creates, stops or deletes a server.
        with lockutils.lock(uuid), _starting(uuid):
            instance = self._instance(uuid)
            if instance is None or not should_run(instance):
                LOG.info("Server %s has rebooted, but Nova does not want it up", uuid)
                return False
            guest = Guest(self._client, instance)
            # Somebody may have started it in the meantime.
            if guest.has_rebooted():
                LOG.info("Starting the server, which has rebooted", instance=instance)
                self._power.start(instance, instance.get_network_info())
            self._note_start(uuid, seconds)
            return True

    def _instance(self, uuid: str) -> objects.Instance | None:
        """Return what Nova has recorded of a server; None if it is not this host's."""
        while not self._stopping.is_set():
            try:
                found = objects.Instance.get_by_uuid(
                    nova_context.get_admin_context(), uuid
                )
            except exception.InstanceNotFound:
                return None
            except Exception as error:
                LOG.warning("Cannot look up server %s; trying again: %s", uuid, error)
                self._stopping.wait(_RETRY_INTERVAL)
            else:
                return found if found.host == CONF.host else None
        return None

    def _delay(self, uuid: str) -> float:
        now = time.monotonic()
        with self._lock:
            self._starts = {
                uuid: start
                for uuid, start in self._starts.items()
                if now - start[0] < _SOON
            }
            when, before = self._starts.get(uuid, (-math.inf, 0.0))
        return delay(now - when, before)

    def _note_start(self, uuid: str, seconds: float) -> None:
        with self._lock:
            self._starts[uuid] = time.monotonic(), seconds


def _starting(uuid: str) -> contextlib.AbstractContextManager[Any]:
    """Return the lock that is held while a server is started."""
    return lockutils.lock(f"docker-reboot-{uuid}")
