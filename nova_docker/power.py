# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and freezing servers, whose links follow.

The kernel answers ping for the addresses of a server even while it is frozen or
stopped. Only a server that runs is therefore connected to the virtual switch. Its links
are restored before its processes run again, so that they lose no packet.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import power_state
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import frozen
from nova_docker.container import isolation
from nova_docker.container import limits
from nova_docker.container import naming
from nova_docker.container import pinning
from nova_docker.guest import Guest
from nova_docker.guest import Namespaces
from nova_docker.nics import Nics

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# For how long a server is thawed again and again while the engine fails to.
_THAW_SECONDS = 120
_THAW_INTERVAL = 1

# For how long one call may delay Nova's periodic tasks and its start.
_CALL_SECONDS = 5


class Power:
    """Starts, stops, freezes and thaws the servers of one host.

    :raises InstanceNotFound: from each method, if the engine has no such container
    :raises NovaException: from each method, if the engine or the kernel fails
    """

    def __init__(
        self,
        client: DockerClient,
        nics: Nics,
        limits_of: Callable[[Any, str, Any], dict[str, Any]],
    ) -> None:
        """
        :param limits_of: :meth:`nova_docker.host.host.Host.limits`
        """
        self._client = client
        self._nics = nics
        self._limits = limits_of

    def plug(self, instance: objects.Instance, network_info: Any) -> None:
        """Plug a server's NICs, connected if it runs. Serves ComputeDriver.plug_vifs.

        Nova calls it for every server of the host when nova-compute starts. A server of
        an earlier release or configuration gets the limits that it lacks.

        :raises VirtualInterfacePlugException: if a NIC cannot be plugged
        """
        try:
            found = Guest(self._client, instance).namespaces()
        except exception.InstanceNotFound:
            level = isolation.level_of(instance.flavor, CONF.docker.isolation)
            found = Namespaces(level, in_use=False, running=False)
        self._nics.plug(
            instance, network_info, level=found.level, connected=found.running
        )
        # gVisor has read its limits when it started.
        if not (found.level == isolation.GVISOR and found.in_use):
            self._renew_limits(instance, found.level)

    def _renew_limits(self, instance: objects.Instance, level: str) -> None:
        """Give a server the limits that it lacks; log a failure."""
        name = naming.name_of(instance.uuid)
        wanted = self._limits(instance.flavor, level, instance.numa_topology)
        try:
            found = self._client.inspect_container(name, timeout=_CALL_SECONDS)
            if lacking := limits.lacking(found["HostConfig"], wanted):
                self._client.update_container(name, lacking)
        except errors.ContainerNotFound:
            pass
        except errors.DockerError as error:
            LOG.warning(
                "Failed to limit the server's processes and CPUs; a hard reboot does: "
                "%s",
                error,
                instance=instance,
            )

    def start(self, instance: objects.Instance, network_info: Any) -> None:
        """Connect a server and start it, or thaw it.

        :raises InstancePowerOnFailure: if it cannot be started
        """
        guest = Guest(self._client, instance)
        with self.cut_on_failure(instance):
            found = guest.namespaces()
            self._nics.plug(
                instance, network_info, level=found.level, renew=not found.in_use
            )
            guest.start()

    def stop(self, instance: objects.Instance, timeout: int) -> None:
        """Stop a server and disconnect it.

        A server without a container counts as stopped. Nova stops a server before each
        attempt to rebuild it, and an attempt that has failed may have left none.

        :param timeout: as in :meth:`nova_docker.guest.Guest.stop`
        """
        with contextlib.suppress(exception.InstanceNotFound):
            Guest(self._client, instance).stop(timeout)
        self._nics.cut(instance)

    def limit(
        self,
        instance: objects.Instance,
        network_info: Any,
        flavor: objects.Flavor,
        timeout: int,
    ) -> None:
        """Give a server the limits of a flavor.

        With gVisor, the server is stopped for it, because gVisor reads its limits when
        it starts. If the change fails, it runs again.

        :param timeout: as in :meth:`nova_docker.guest.Guest.stop`
        :raises ResizeError: as :meth:`nova_docker.guest.Guest.limit` does
        """
        guest = Guest(self._client, instance)
        found = guest.namespaces()
        stops = found.level == isolation.GVISOR and found.in_use
        if stops:
            self.stop(instance, timeout)
        try:
            self._nics.limit(instance, network_info, flavor)
            topology = pinning.topology_of(instance, flavor)
            guest.limit(self._limits(flavor, found.level, topology))
        except Exception:
            with excutils.save_and_reraise_exception():
                self._nics.limit(instance, network_info, instance.flavor)
                if stops:
                    self.start(instance, network_info)

    def freeze(self, instance: objects.Instance) -> None:
        """Freeze a server and disconnect it; calling it again has no effect.

        If that fails, the server runs as before.

        :raises InstanceNotRunning: if it is stopped
        """
        guest = Guest(self._client, instance)
        try:
            guest.pause()
            # From now on it is the user's wish that the server is frozen.
            frozen.forget(instance.uuid)
            self._nics.cut(instance)
        except exception.InstanceNotRunning:
            raise
        except Exception as error:
            with excutils.save_and_reraise_exception():
                LOG.warning(
                    "Failed to freeze the server; it continues: %s",
                    error,
                    instance=instance,
                )
                # The engine may have acted although the call has failed.
                with contextlib.suppress(Exception):
                    self._nics.reconnect(instance)
                    guest.unpause()

    def thaw(self, instance: objects.Instance) -> None:
        """Connect a frozen server and thaw it; calling it again has no effect.

        :raises InstanceNotRunning: if it is stopped
        """
        with self.cut_on_failure(instance):
            self._nics.reconnect(instance)
            Guest(self._client, instance).unpause()

    @contextlib.contextmanager
    def held(self, instance: objects.Instance) -> Iterator[None]:
        """Freeze a server, if it runs, for the duration of the block.

        It stays connected. It is thawed whatever happens to the engine or to
        nova-compute: a mark tells :meth:`release` that Nova's user has not paused it.
        One that is frozen or stopped already stays so.
        """
        with alone(instance.uuid), self._frozen(instance):
            yield

    @contextlib.contextmanager
    def _frozen(self, instance: objects.Instance) -> Iterator[None]:
        uuid = instance.uuid
        guest = Guest(self._client, instance)
        unanswered = False
        try:
            if guest.info().state == power_state.RUNNING:
                frozen.mark(uuid)
                unanswered = True
                # It may end meanwhile, and then it does not change either.
                with contextlib.suppress(exception.InstanceNotRunning):
                    guest.pause()
                unanswered = False
            yield
        finally:
            self._thaw_until(uuid, time.monotonic() + _THAW_SECONDS)
            if unanswered:
                # The engine may still freeze it.
                frozen.mark(uuid)

    def release(self) -> None:
        """Thaw the servers that an interrupted snapshot has left frozen.

        What fails is logged, and tried again by the next call.
        """
        for uuid in frozen.marked():
            # A snapshot that begins meanwhile waits, and one in progress is left alone.
            with (
                contextlib.suppress(lockutils.AcquireLockFailedException),
                alone(uuid, blocking=False),
            ):
                LOG.warning("Thawing server %s: its snapshot was interrupted", uuid)
                self._thaw_until(uuid, 0)

    def _thaw_until(self, uuid: str, deadline: float) -> None:
        """Thaw a server that is marked; try again until a deadline."""
        guest = Guest(self._client, objects.Instance(uuid=uuid))
        while frozen.is_marked(uuid):
            try:
                with contextlib.suppress(
                    exception.InstanceNotFound, exception.InstanceNotRunning
                ):
                    guest.unpause(timeout=_CALL_SECONDS)
            except exception.NovaException as error:
                if time.monotonic() > deadline:
                    LOG.error(
                        "Server %s stays frozen after a snapshot; this is tried again "
                        "later, and a hard reboot ends it: %s",
                        uuid,
                        error,
                    )
                    return
                time.sleep(_THAW_INTERVAL)
            else:
                frozen.forget(uuid)

    @contextlib.contextmanager
    def cut_on_failure(self, instance: objects.Instance) -> Iterator[None]:
        """Disconnect a server if the block fails and the server does not run."""
        try:
            yield
        except Exception:
            with excutils.save_and_reraise_exception():
                try:
                    if not self.is_running(instance):
                        self._nics.cut(instance)
                except Exception as error:
                    LOG.warning(
                        "Failed to disconnect the server: %s", error, instance=instance
                    )

    def is_running(self, instance: objects.Instance) -> bool:
        """Return whether a server's processes run, and are not frozen."""
        try:
            return Guest(self._client, instance).info().state == power_state.RUNNING
        except exception.InstanceNotFound:
            return False


def alone(
    uuid: str, *, blocking: bool = True
) -> contextlib.AbstractContextManager[Any]:
    """Return a lock against freezing and thawing a server by two threads."""
    # Nova itself locks the plain UUID.
    return lockutils.lock(f"docker-held-{uuid}", blocking=blocking)
