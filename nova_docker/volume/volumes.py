# SPDX-License-Identifier: Apache-2.0
"""The volumes of a host's servers, and ephemeral disks: block devices in their /dev.

A server that does not run has its volumes as well: they stay connected, and the OCI
runtime gives them to it when it starts. What a server has is recorded by
:mod:`nova_docker.privsep.devices`. Each step is recorded before it takes effect in the
server, and undone in the opposite order, so that all of it may be repeated after
nova-compute was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine.client import DockerClient
from docker_engine.printable import printable
from nova_docker.container import naming
from nova_docker.container import quota
from nova_docker.guest import Guest
from nova_docker.power import Power
from nova_docker.privsep import devices
from nova_docker.volume import connections
from nova_docker.volume import disks
from nova_docker.volume import ephemerals
from nova_docker.volume import usage
from nova_docker.volume.disks import Disk

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)


class Volumes:
    """Attaches and detaches the volumes of servers. Several threads may use it."""

    def __init__(
        self, client: DockerClient, power: Power, why_not_hot: Callable[[], str | None]
    ) -> None:
        """
        :param why_not_hot: returns why no server that runs can get or lose a device
        """
        self._client = client
        self._power = power
        self._why_not_hot = why_not_hot
        # By UUID of the server and of the volume: the device of one that was attached,
        # None for one that was detached
        self._changed: dict[str, dict[str, str | None]] = {}

    def attach(
        self,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
    ) -> None:
        """Connect a volume and give it to a server. Calling it again has no effect.

        :param connection_info: what is needed to disconnect is added to it
        :param mountpoint: as ComputeDriver.attach_volume receives it
        :raises VolumeAttachFailed: if that fails; the host is not connected then
        :raises InvalidInput: if the server cannot have volumes
        :raises InvalidDevicePath: if the server's device cannot have its name
        """
        disk = Disk(disks.device_of(mountpoint), connection_info)
        disks.refuse_level(Guest(self._client, instance).namespaces().level)
        with _lock(disk), _failing(disk):
            process = self._process(instance)
            if process and (reason := self._why_not_hot()):
                raise exception.VolumeAttachFailed(
                    volume_id=disk.volume_id,
                    reason=f"{reason}; stop the server before you attach it",
                )
            with self._connected(instance, disk) as path:
                self._give(instance, disk, path, process)
            self._note(instance, disk, disk.device)

    @contextlib.contextmanager
    def attached(
        self,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
    ) -> Iterator[None]:
        """Attach a volume as :meth:`attach` does, and detach it if the block fails."""
        self.attach(connection_info, instance, mountpoint)
        try:
            yield
        except Exception:
            with excutils.save_and_reraise_exception():
                try:
                    self.detach(connection_info, instance, mountpoint)
                except Exception:
                    LOG.exception("Failed to detach a volume", instance=instance)

    def detach(
        self,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
    ) -> None:
        """Take a volume from a server and disconnect it, unless that has been done.

        :param mountpoint: as ComputeDriver.detach_volume receives it
        :raises DeviceDetachFailed: if the server uses it; it keeps it
        :raises Exception: what os-brick raises
        """
        disk = Disk(disks.device_of(mountpoint), connection_info)
        with _lock(disk):
            name = naming.name_of(instance.uuid)
            number = devices.recorded(name).get(disk.device)
            if number:
                self._take(instance, disk.device, number)
                devices.forget(name, disk.device)
            self._disconnect(disk, number or connections.number(connection_info))
            self._note(instance, disk, None)

    def extend(self, connection_info: dict[str, Any]) -> None:
        """Let a server see the new size of a volume.

        :raises VolumeExtendFailed: if the host does not see it
        """
        connections.extend(connection_info)

    def swap(
        self,
        old: dict[str, Any],
        new: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
    ) -> None:
        """Copy a volume to another one, which the server has from then on.

        Meanwhile the server has neither.

        :param old: connection info of the one that it has
        :param new: of the other one; what is needed to disconnect is added to it
        :raises DiskNotFound: if the server does not have it
        :raises DeviceDetachFailed: if the server uses it; it keeps it
        :raises VolumeRebaseFailed: if the copy fails; the server has the old one again
        """
        before = Disk(disks.device_of(mountpoint), old)
        after = Disk(before.device, new)
        name = naming.name_of(instance.uuid)
        number = devices.recorded(name).get(before.device)
        if not number:
            raise exception.DiskNotFound(location=mountpoint)
        source = devices.path_of(number)
        with _lock(before, after):
            process = self._process(instance)
            with self._connected(instance, after) as path:
                self._take(instance, before.device, number)
                try:
                    # One at a time: each takes a thread of the daemon for its length.
                    with lockutils.lock("docker-volume-copy"):
                        devices.copy(source, path)
                    self._give(instance, after, path, process)
                except Exception as error:
                    LOG.exception("Failed to copy a volume", instance=instance)
                    self._give(instance, before, source, process)
                    raise exception.VolumeRebaseFailed(reason=str(error)) from error
            self._note(instance, before, None)
            self._note(instance, after, after.device)
            # The server has the other one: Nova must not undo that.
            with _logged(before, instance):
                self._disconnect(before, number)

    @contextlib.contextmanager
    def connected(
        self, instance: objects.Instance, block_device_info: Any
    ) -> Iterator[None]:
        """Give a server its volumes and new ephemeral disks; create it in the block.

        If the block fails, they are taken away again.

        :param block_device_info: as ComputeDriver.spawn receives it
        :raises InstanceExists: if it exists already, with ephemeral disks
        :raises InstanceDeployFailure: if there cannot be ephemeral disks
        :raises VolumeAttachFailed: if a volume cannot be connected
        """
        self._changed.pop(instance.uuid, None)
        try:
            self._make_ephemerals(instance, block_device_info)
            for disk in disks.of(block_device_info):
                self._reconnect(instance, disk)
            yield
        except exception.InstanceExists:
            # The volumes belong to the server that exists.
            raise
        except Exception:
            with excutils.save_and_reraise_exception():
                try:
                    self.release(instance, block_device_info)
                except Exception:
                    LOG.exception(
                        "Failed to disconnect volumes after a failed boot",
                        instance=instance,
                    )

    def restore(self, instance: objects.Instance, block_device_info: Any) -> None:
        """Give a server the disks that it has, before it starts.

        One that runs stays as it is.

        :param block_device_info: as ComputeDriver.power_on receives it; None if it is
            unknown, and with it the volumes
        :raises DiskNotFound: if an ephemeral disk is missing
        :raises VolumeAttachFailed: if a volume cannot be connected
        """
        name = naming.name_of(instance.uuid)
        wanted = disks.of(block_device_info)
        own = _ephemerals(block_device_info)
        if not (wanted or own or self.has_any(instance)) or self._process(instance):
            return
        ephemerals.connect(instance.uuid, own)
        if block_device_info is None:
            return
        # Nova locks nothing here: it may have asked its database before a volume was
        # attached or detached.
        changed = self._changed.get(instance.uuid, {})
        wanted = [disk for disk in wanted if changed.get(disk.volume_id, disk.device)]
        for disk in wanted:
            self._reconnect(instance, disk)
        kept = {disk.device for disk in wanted}.union(
            changed.values(), ephemerals.names(instance.uuid)
        )
        for device in devices.recorded(name).keys() - kept:
            LOG.warning(
                "The server has a volume as /dev/%s that Nova does not know of; it is "
                "taken away, and the host may stay connected to it",
                device,
                instance=instance,
            )
            devices.forget(name, device)

    def release(self, instance: objects.Instance, block_device_info: Any) -> None:
        """Disconnect the volumes of a server that is gone; remove its ephemeral disks.

        A volume that cannot be disconnected is left, with a warning, as in libvirt's
        driver: it would keep the server from being deleted.

        :param block_device_info: as ComputeDriver.destroy receives it
        :raises InstanceTerminationFailure: if the server's container exists
        """
        self._changed.pop(instance.uuid, None)
        wanted = disks.of(block_device_info)
        if not (wanted or self.has_any(instance)):
            return
        if Guest(self._client, instance).exists():
            # It may have them open.
            raise exception.InstanceTerminationFailure(
                reason="the Docker engine has not removed the server's container, so "
                "its disks stay connected; delete the server again when it has"
            )
        self._forget_all(instance, wanted)
        ephemerals.remove(instance.uuid)

    @contextlib.contextmanager
    def withdrawn(
        self,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any,
        timeout: int,
    ) -> Iterator[None]:
        """Stop a server that has volumes, and disconnect them.

        If the block fails, it runs as before.

        :param block_device_info: as ComputeDriver.migrate_disk_and_power_off gets it
        :param timeout: as in :meth:`nova_docker.guest.Guest.stop`
        """
        ran = bool(self._process(instance))
        try:
            self.withdraw(instance, block_device_info, timeout)
            yield
        except Exception:
            with excutils.save_and_reraise_exception():
                self.restore(instance, block_device_info)
                if ran:
                    self._power.start(instance, network_info)

    def withdraw(
        self,
        instance: objects.Instance,
        block_device_info: Any,
        timeout: int,
    ) -> None:
        """Stop a server that has volumes, and disconnect them.

        Nova does not keep them attached while it resizes a server.

        :param timeout: as in :meth:`nova_docker.guest.Guest.stop`
        """
        wanted = disks.of(block_device_info)
        if wanted:
            self._power.stop(instance, timeout)
            self._forget_all(instance, wanted)

    def has_any(self, instance: objects.Instance) -> bool:
        """Return whether a server has volumes or ephemeral disks."""
        name = naming.name_of(instance.uuid)
        return devices.has_any(name) or ephemerals.has_any(instance.uuid)

    def usage(self, servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return what servers have read from and written to their volumes.

        Serves ComputeDriver.get_all_volume_usage.

        :param servers: ``instance`` and ``instance_bdms`` of each
        """
        return [
            found
            for server in servers
            for found in usage.of(
                server["instance"],
                server["instance_bdms"],
                devices.recorded(naming.name_of(server["instance"].uuid)),
            )
        ]

    def _note(self, instance: objects.Instance, disk: Disk, device: str | None) -> None:
        """Remember that a volume was attached as a device, or detached."""
        self._changed.setdefault(instance.uuid, {})[disk.volume_id] = device

    def _process(self, instance: objects.Instance) -> tuple[int, str] | None:
        """Return the first process of a server and its container; None if stopped."""
        try:
            return Guest(self._client, instance).first_process()
        except exception.InstanceNotFound:
            return None

    def _make_ephemerals(
        self, instance: objects.Instance, block_device_info: Any
    ) -> None:
        """Give a server that does not exist yet its ephemeral disks."""
        if wanted := _ephemerals(block_device_info):
            if Guest(self._client, instance).exists():
                # The disks are those of the server that exists.
                raise exception.InstanceExists(name=instance.name)
            ephemerals.make(instance.uuid, wanted)
            ephemerals.connect(instance.uuid)

    def _reconnect(self, instance: objects.Instance, disk: Disk) -> None:
        """Give a volume to a server that does not run."""
        with (
            _lock(disk),
            _failing(disk),
            self._connected(instance, disk) as path,
        ):
            self._give(instance, disk, path, None)
            disk.save()

    @contextlib.contextmanager
    def _connected(self, instance: objects.Instance, disk: Disk) -> Iterator[str]:
        """Connect a volume, and disconnect it if the block fails.

        :yields: the path of its block device
        """
        path = connections.connect(disk.connection_info)
        try:
            yield path
        except Exception:
            with excutils.save_and_reraise_exception(), _logged(disk, instance):
                self._disconnect(disk, connections.number(disk.connection_info))

    def _disconnect(self, disk: Disk, number: str | None) -> None:
        """Disconnect a volume that no server of this host has.

        :param number: of its block device, None if it is unknown
        """
        if number and (others := devices.owners(number)):
            LOG.info("Volume %s stays connected: %s has it", disk.volume_id, others[0])
            return
        connections.disconnect(disk.connection_info)

    def _give(
        self,
        instance: objects.Instance,
        disk: Disk,
        path: str,
        process: tuple[int, str] | None,
    ) -> None:
        """Give a block device to a server, which has nothing else in its place then.

        :param process: as :meth:`_process` returns it
        """
        name = naming.name_of(instance.uuid)
        before = devices.recorded(name).get(disk.device)
        if before not in (None, devices.number_of(path)):
            # An attempt to detach it was interrupted.
            self._take(instance, disk.device, before)
        devices.record(name, disk.device, path, read_only=disk.read_only)
        try:
            if process:
                with contextlib.suppress(ProcessLookupError):
                    devices.insert(
                        name, disk.device, *process, limits=quota.reads(instance.flavor)
                    )
        except Exception:
            with excutils.save_and_reraise_exception():
                devices.forget(name, disk.device)

    def _take(self, instance: objects.Instance, device: str, number: str) -> None:
        """Take a block device from a server that runs.

        :raises DeviceDetachFailed: if it is open
        """
        process = self._process(instance)
        if not process:
            return
        if reason := self._why_not_hot():
            raise exception.DeviceDetachFailed(
                device=f"/dev/{device}",
                reason=f"{reason}; stop the server before you detach it",
            )
        name = naming.name_of(instance.uuid)
        try:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                devices.remove(name, device, number, *process)
        except OSError as error:
            users = ", ".join(devices.users(number, process[1]))
            raise exception.DeviceDetachFailed(
                device=f"/dev/{device}",
                reason=printable(
                    f"{error.strerror or error}; processes of the server that use it: "
                    f"{users or 'unknown'}. End them, or stop the server"
                ),
            ) from error

    def _forget_all(self, instance: objects.Instance, wanted: list[Disk]) -> None:
        """Disconnect all volumes of a server that does not run."""
        name = naming.name_of(instance.uuid)
        numbers = devices.recorded(name)
        for device in numbers.keys() - set(ephemerals.names(instance.uuid)):
            devices.forget(name, device)
        for disk in wanted:
            number = numbers.get(disk.device)
            number = number or connections.number(disk.connection_info)
            try:
                with _lock(disk):
                    self._disconnect(disk, number)
            except Exception:
                LOG.warning(
                    "Failed to disconnect volume %s",
                    disk.volume_id,
                    instance=instance,
                    exc_info=True,
                )


def _ephemerals(block_device_info: Any) -> list[disks.Ephemeral]:
    return disks.ephemerals(block_device_info, CONF.default_ephemeral_format)


@contextlib.contextmanager
def _lock(*of: Disk) -> Iterator[None]:
    """Hold the locks of volumes, which several servers may have."""
    with contextlib.ExitStack() as locks:
        for volume_id in sorted({disk.volume_id for disk in of}):
            locks.enter_context(lockutils.lock(f"docker-volume-{volume_id}"))
        yield


@contextlib.contextmanager
def _failing(disk: Disk) -> Iterator[None]:
    """Say why a volume cannot be attached.

    :raises VolumeAttachFailed: if the block fails
    """
    try:
        yield
    except exception.VolumeAttachFailed:
        raise
    except Exception as error:
        raise exception.VolumeAttachFailed(
            volume_id=disk.volume_id, reason=printable(str(error))
        ) from error


@contextlib.contextmanager
def _logged(disk: Disk, instance: objects.Instance) -> Iterator[None]:
    """Disconnect a volume in the block; log a failure, and do not raise it."""
    try:
        yield
    except Exception:
        LOG.exception(
            "Failed to disconnect volume %s", disk.volume_id, instance=instance
        )
