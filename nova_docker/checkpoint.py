# SPDX-License-Identifier: Apache-2.0
"""The policy of suspend and resume: on disk where that works, else in memory.

Servers are suspended to disk by a checkpoint, if the engine is experimental and CRIU
is installed. Otherwise, and if CRIU cannot write a server, it is frozen.
"""

from __future__ import annotations

from typing import Any

from nova import exception
from nova import objects
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker.guest import Guest
from nova_docker.host.host import Host
from nova_docker.nics import Nics

LOG = logging.getLogger(__name__)


class Checkpoints:
    """Suspends and resumes the servers of one host."""

    def __init__(self, client: DockerClient, host: Host, nics: Nics) -> None:
        self._client = client
        self._host = host
        self._nics = nics

    def suspend(self, instance: objects.Instance) -> None:
        """Write a running server to disk and end its processes, or freeze it.

        :raises InstanceNotRunning: if it is not running
        """
        guest = Guest(self._client, instance)
        self.discard(instance)
        if self._host.saves_memory:
            try:
                guest.save()
            except exception.InstanceSuspendFailure as error:
                LOG.warning(
                    "Checkpoint failed; the server stays frozen in memory: %s",
                    error,
                    instance=instance,
                )
            else:
                self._nics.cut(instance)
                return
        guest.pause()

    def resume(self, instance: objects.Instance, network_info: Any) -> bool:
        """Let a suspended server continue.

        :returns: False if its memory is lost: it must be started from its disk
        :raises InstanceFaultRollback: if it cannot be restored; it stays suspended,
            and can be rebooted
        """
        guest = Guest(self._client, instance)
        if self._host.checkpoints and guest.is_saved():
            self._nics.plug(instance, network_info)
            try:
                guest.restore()
            except exception.InstanceResumeFailure as error:
                raise exception.InstanceFaultRollback(error) from error
            self.discard(instance)
            return True
        try:
            guest.unpause()
        except exception.InstanceNotRunning:
            return False
        return True

    def discard(self, instance: objects.Instance) -> None:
        """Remove a server's checkpoint, if it has one.

        A checkpoint does not fit a disk that has changed since.
        """
        if self._host.checkpoints:
            Guest(self._client, instance).discard_saved()
