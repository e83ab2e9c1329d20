# SPDX-License-Identifier: Apache-2.0
"""The policy of suspend and resume: on disk if possible, otherwise in memory.

A server is suspended to disk with a checkpoint, if the engine is experimental and CRIU
is installed. Otherwise, or if CRIU cannot write this server, it is frozen in memory. So
is a server with a user namespace, into which CRIU cannot restore it, or with gVisor,
of which CRIU knows nothing.
Either way it is disconnected until it runs again.
"""

from __future__ import annotations

from typing import Any

from nova import exception
from nova import objects
from nova.compute import power_state
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker.container import isolation
from nova_docker.guest import Guest
from nova_docker.host.host import Host
from nova_docker.nics import Nics
from nova_docker.power import Power

LOG = logging.getLogger(__name__)


class Checkpoints:
    """Suspends and resumes the servers of one host."""

    def __init__(
        self, client: DockerClient, host: Host, nics: Nics, power: Power
    ) -> None:
        self._client = client
        self._host = host
        self._nics = nics
        self._power = power

    def suspend(self, instance: objects.Instance, *, to_disk: bool = True) -> None:
        """Write a running server to disk and end its processes, or freeze them.

        Calling it again has no effect.

        :param to_disk: False to freeze it in any case
        :raises InstanceNotRunning: if the server is stopped
        """
        guest = Guest(self._client, instance)
        if to_disk and self._host.saves_memory:
            if guest.namespaces().level != isolation.SHARED:
                LOG.info(
                    "The server is frozen in memory: CRIU cannot restore processes "
                    "into a user namespace or into gVisor. A flavor with "
                    "docker:isolation=shared allows it to be suspended to disk.",
                    instance=instance,
                )
            elif self._save(guest, instance):
                self._nics.cut(instance)
                return
        self.discard(instance)
        self._power.freeze(instance)

    def resume(self, instance: objects.Instance, network_info: Any) -> bool:
        """Continue a suspended server.

        :returns: False if its memory is lost, and it must be started from its disk
        :raises InstanceFaultRollback: if it cannot be restored; it stays suspended,
            and a hard reboot starts it from its disk
        """
        guest = Guest(self._client, instance)
        if self._host.checkpoints and guest.is_saved():
            with self._power.cut_on_failure(instance):
                self._nics.plug(instance, network_info, level=guest.namespaces().level)
                try:
                    guest.restore()
                except exception.InstanceResumeFailure as error:
                    raise exception.InstanceFaultRollback(error) from error
            self.discard(instance)
            return True
        try:
            self._power.thaw(instance)
        except exception.InstanceNotRunning:
            return False
        return True

    def _save(self, guest: Guest, instance: objects.Instance) -> bool:
        """Write a server to disk unless it is there; return whether that works."""
        if _is_on_disk(guest):
            return True
        guest.discard_saved()
        try:
            guest.save()
        except exception.InstanceSuspendFailure as error:
            # The engine may have written it although the call has failed.
            if _is_on_disk(guest):
                return True
            LOG.warning(
                "Checkpoint failed; the server stays frozen in memory: %s",
                error,
                instance=instance,
            )
            return False
        return True

    def discard(self, instance: objects.Instance) -> None:
        """Remove a server's checkpoint, if it has one.

        Once the server has run again, its files no longer match the checkpoint.
        """
        if self._host.checkpoints:
            Guest(self._client, instance).discard_saved()


def _is_on_disk(guest: Guest) -> bool:
    return guest.info().state == power_state.SHUTDOWN and guest.is_saved()
