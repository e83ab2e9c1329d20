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
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from nova import context as nova_context
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from oslo_concurrency import lockutils
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker.guest import Guest
from nova_docker.guest import rebooted
from nova_docker.power import Power
from nova_docker.power import alone

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# A server that reboots again so soon after its last start has to wait, each time twice
# as long: a start is work of the host.
_SOON = 60
_MOST = 60

# For how long a start is tried again that something prevents, and the longest wait
# between two attempts
_PATIENCE = 120
_INTERVAL = 10

# Simultaneous starts, should all servers of the host reboot at once
_AT_ONCE = 4

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


class _NotYet(Exception):
    """A server cannot start now, and may later; the message says why."""


class Reboots:
    """The reboots of one host's servers. Several threads may use it."""

    def __init__(
        self,
        client: DockerClient,
        power: Power,
        stays_stopped: Callable[[str], None],
    ) -> None:
        """
        :param stays_stopped: called with the UUID of a server that has ended for
            another reason, or cannot start again
        """
        self._client = client
        self._power = power
        self._stays_stopped = stays_stopped
        self._stopping = threading.Event()
        self._starting = threading.BoundedSemaphore(_AT_ONCE)
        self._lock = threading.Lock()
        # UUIDs, and whether the server has ended once more since
        self._pending: dict[str, bool] = {}
        # When a server was last started, and how long it had waited, by UUID
        self._starts: dict[str, tuple[float, float]] = {}
        self._recovered = False

    def begin(self, uuid: str) -> None:
        """Start a server that has ended again if it has rebooted.

        That takes place in a thread of its own, unless one is at it already.
        """
        with self._lock:
            if uuid in self._pending:
                self._pending[uuid] = True
                return
            self._pending[uuid] = True
        thread = threading.Thread(
            target=self._run, args=(uuid,), name=f"docker-reboot-{uuid}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:
            LOG.error("Cannot start server %s again: %s", uuid, error)
            self._give_up(uuid)

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

    def held_off(
        self, instance: objects.Instance
    ) -> contextlib.AbstractContextManager[Any]:
        """Let no server start again during the block.

        For what changes its NICs, of which Nova records nothing beforehand.
        """
        return _start_lock(instance.uuid)

    def settle(self, instance: objects.Instance) -> None:
        """Wait for the start of a server that has begun.

        For verbs that Nova has recorded beforehand, so that no start begins later.
        """
        with _start_lock(instance.uuid):
            pass

    def stop(self) -> None:
        """Start no more servers."""
        self._stopping.set()

    def _run(self, uuid: str) -> None:
        runs = True
        while runs and self._is_next(uuid):
            try:
                runs = self._restart(uuid)
            except Exception:
                LOG.exception("Failed to start server %s, which has rebooted", uuid)
                runs = False
        if not runs:
            self._give_up(uuid)

    def _is_next(self, uuid: str) -> bool:
        """Return whether a server has ended, and forget it if not."""
        with self._lock:
            if self._pending[uuid]:
                self._pending[uuid] = False
                return True
            del self._pending[uuid]
            return False

    def _give_up(self, uuid: str) -> None:
        with self._lock:
            del self._pending[uuid]
        if not self._stopping.is_set():
            self._stays_stopped(uuid)

    def _restart(self, uuid: str) -> bool:
        """Wait and start a server; return whether it runs."""
        guest = Guest(self._client, objects.Instance(uuid=uuid))
        with contextlib.suppress(exception.NovaException):
            # Only the engine itself is believed: an image's label may have the same
            # name as an attribute of its event.
            if not guest.has_rebooted():
                return guest.info().state == power_state.RUNNING
        seconds = self._delay(uuid)
        if seconds:
            LOG.warning(
                "Server %s reboots again and again: it starts in %d s", uuid, seconds
            )
        interval = 1
        deadline = time.monotonic() + seconds + _PATIENCE
        while not self._stopping.wait(seconds):
            try:
                return self._attempt(uuid)
            except _NotYet as reason:
                LOG.info("Server %s has rebooted and waits: %s", uuid, reason)
                if time.monotonic() > deadline:
                    return False
            seconds, interval = interval, min(2 * interval, _INTERVAL)
        return False

    def _attempt(self, uuid: str) -> bool:
        """Start a server; return whether it runs. Waits for nothing but locks.

        :raises _NotYet: if something prevents it that may end
        """
        # Nova locks the plain UUID, too, while it creates, stops or deletes a server.
        with lockutils.lock(uuid), _start_lock(uuid), self._not_frozen(uuid):
            instance = self._instance(uuid)
            if instance is None or instance.vm_state not in _RUNNING:
                LOG.info("Server %s has rebooted, and Nova does not want it up", uuid)
                return False
            guest = Guest(self._client, instance)
            try:
                if not guest.has_rebooted():
                    # Nova may have started it in the meantime.
                    return guest.info().state == power_state.RUNNING
                if not should_run(instance):
                    raise _NotYet(f"its task is {instance.task_state}")
                LOG.info("Starting the server, which has rebooted", instance=instance)
                with self._starting:
                    self._power.start(instance, instance.get_network_info())
            except (exception.InstanceNotFound, exception.InstancePowerOnFailure):
                LOG.exception("Failed to start the server", instance=instance)
                return False
            except exception.NovaException as error:
                raise _NotYet(str(error)) from error
            self._note_start(uuid)
            return True

    @contextlib.contextmanager
    def _not_frozen(self, uuid: str) -> Iterator[None]:
        """Keep a server from being frozen for a snapshot during the block.

        :raises _NotYet: if it is, in the form in which it has ended
        """
        try:
            with alone(uuid, blocking=False):
                yield
        except lockutils.AcquireLockFailedException as error:
            raise _NotYet("a snapshot is made of it") from error

    @staticmethod
    def _instance(uuid: str) -> objects.Instance | None:
        """Return what Nova has recorded of a server; None if it is not this host's.

        :raises _NotYet: if Nova does not answer
        """
        try:
            found = objects.Instance.get_by_uuid(nova_context.get_admin_context(), uuid)
        except exception.InstanceNotFound:
            return None
        # Whatever the RPC client, the conductor or the database raise
        except Exception as error:
            raise _NotYet(f"cannot look it up: {error}") from error
        return found if found.host == CONF.host else None

    def _delay(self, uuid: str) -> float:
        """Return how long a server has to wait, and remember it for the next time."""
        now = time.monotonic()
        with self._lock:
            self._starts = {
                uuid: start
                for uuid, start in self._starts.items()
                if now - start[0] < _SOON
            }
            when, before = self._starts.get(uuid, (-math.inf, 0.0))
            seconds = delay(now - when, before)
            self._starts[uuid] = now, seconds
            return seconds

    def _note_start(self, uuid: str) -> None:
        with self._lock:
            _, seconds = self._starts.get(uuid, (0.0, 0.0))
            self._starts[uuid] = time.monotonic(), seconds


def _start_lock(uuid: str) -> contextlib.AbstractContextManager[Any]:
    """Return the lock that is held while a server is started."""
    return lockutils.lock(f"docker-reboot-{uuid}")
