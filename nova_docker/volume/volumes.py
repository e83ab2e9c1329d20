# SPDX-License-Identifier: Apache-2.0
"""The volumes of a host's servers, and ephemeral disks.

A server that does not run has its volumes as well: they stay connected, and the OCI
runtime gives them to it when it starts. What a server has, and how it is recorded,
depends on its :mod:`nova_docker.volume.mode`. Each step is recorded before it takes
effect in the server, and undone in the opposite order, so that all of it may be
repeated after nova-compute was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.virt import block_device
from oslo_concurrency import lockutils
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine.client import DockerClient
from docker_engine.printable import printable
from nova_docker.container import naming
from nova_docker.container import volume_mode
from nova_docker.guest import Guest
from nova_docker.power import Power
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.volume import connections
from nova_docker.volume import disks
from nova_docker.volume import ephemerals
from nova_docker.volume import usage
from nova_docker.volume.disks import Disk
from nova_docker.volume.filesystems import FileSystems
from nova_docker.volume.mode import BlockDevices
from nova_docker.volume.mode import Mode

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)


class Given(NamedTuple):
    """What a server was given.

    :ivar mode: how it has it
    :ivar number: of the block device
    """

    mode: Mode
    number: str


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
        self._modes: dict[str, Mode] = {
            volume_mode.DEVICE: BlockDevices(why_not_hot),
            volume_mode.FILE_SYSTEM: FileSystems(why_not_hot),
        }
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
        server = Guest(self._client, instance).namespaces()
        mode = self._modes[server.volume_mode]
        mode.refuse(server.level, disk)
        with _lock(disk), _failing(disk):
            process = self._process(instance)
            if process and (reason := mode.why_not_hot(instance, server.level)):
                raise exception.VolumeAttachFailed(
                    volume_id=disk.volume_id,
                    reason=f"{reason}; stop the server before you attach it",
                )
            with self._connected(instance, disk) as path:
                self._give(instance, mode, disk, path, process)
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
            given = self._given(name, disk.device)
            if given:
                self._take(instance, given, disk.device)
                _forget(given.mode, name, disk.device)
            number = given.number if given else connections.number(connection_info)
            self._disconnect(disk, number)
            self._note(instance, disk, None)

    def extend(self, connection_info: dict[str, Any]) -> None:
        """Let a server see the new size of a volume.

        :raises VolumeExtendFailed: if the host does not see it, or the file system
            cannot grow
        """
        connections.extend(connection_info)
        if number := connections.number(connection_info):
            for mode in self._modes.values():
                try:
                    mode.extend(number)
                except OSError as error:
                    raise exception.VolumeExtendFailed(
                        volume_id=block_device.get_volume_id(connection_info),
                        reason=printable(
                            "the volume has its new size, and its file system the old "
                            f"one: {error}"
                        ),
                    ) from error

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
        :raises VolumeRebaseFailed: if the copy fails; the server has the old one again.
            Or if volumes of the server cannot be swapped
        """
        before = Disk(disks.device_of(mountpoint), old)
        after = Disk(before.device, new)
        name = naming.name_of(instance.uuid)
        given = self._given(name, before.device)
        if not given:
            raise exception.DiskNotFound(location=mountpoint)
        given.mode.refuse_swap()
        source = devices.path_of(given.number)
        with _lock(before, after):
            process = self._process(instance)
            with self._connected(instance, after) as path:
                self._take(instance, given, before.device)
                try:
                    # One at a time: each takes a thread of the daemon for its length.
                    with lockutils.lock("docker-volume-copy"):
                        devices.copy(source, path)
                    self._give(instance, given.mode, after, path, process)
                except Exception as error:
                    LOG.exception("Failed to copy a volume", instance=instance)
                    self._give(instance, given.mode, before, source, process)
                    raise exception.VolumeRebaseFailed(reason=str(error)) from error
            self._note(instance, before, None)
            self._note(instance, after, after.device)
            # The server has the other one: Nova must not undo that.
            with _logged(before, instance):
                self._disconnect(before, given.number)

    @contextlib.contextmanager
    def connected(
        self,
        instance: objects.Instance,
        block_device_info: Any,
        mode: str,
    ) -> Iterator[None]:
        """Give a server its volumes and new ephemeral disks; create it in the block.

        If the block fails, they are taken away again.

        :param block_device_info: as ComputeDriver.spawn receives it
        :param mode: that the server gets, of
            :mod:`nova_docker.container.volume_mode`
        :raises InstanceExists: if it exists already, with ephemeral disks
        :raises InstanceDeployFailure: if there cannot be ephemeral disks
        :raises VolumeAttachFailed: if a volume cannot be connected
        """
        self._changed.pop(instance.uuid, None)
        try:
            self._make_ephemerals(instance, self._modes[mode], block_device_info)
            for disk in disks.of(block_device_info):
                self._reconnect(instance, self._modes[mode], disk)
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
        :raises DeviceDetachFailed: if a volume that it must not have is in use
        :raises VolumeAttachFailed: if a volume cannot be connected
        """
        name = naming.name_of(instance.uuid)
        wanted = disks.of(block_device_info)
        own = _ephemerals(block_device_info)
        if not (wanted or own or self.has_any(instance)) or self._process(instance):
            return
        mode = self._modes[Guest(self._client, instance).namespaces().volume_mode]
        ephemerals.connect(instance.uuid, mode, own)
        if block_device_info is None:
            return
        # Nova locks nothing here: it may have asked its database before a volume was
        # attached or detached.
        changed = self._changed.get(instance.uuid, {})
        wanted = [disk for disk in wanted if changed.get(disk.volume_id, disk.device)]
        kept = {disk.device for disk in wanted}.union(
            changed.values(), ephemerals.names(instance.uuid)
        )
        for device, given in self._all_given(name).items():
            if device in kept:
                continue
            LOG.warning(
                "The server has a volume as /dev/%s that Nova does not know of; it is "
                "taken away, and the host may stay connected to it",
                device,
                instance=instance,
            )
            _forget(given.mode, name, device)
        for disk in wanted:
            self._reconnect(instance, mode, disk)

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
        return (
            devices.has_any(name)
            or bool(filesystems.recorded(name))
            or ephemerals.has_any(instance.uuid)
        )

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
                {
                    device: given.number
                    for device, given in self._all_given(
                        naming.name_of(server["instance"].uuid)
                    ).items()
                },
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

    def _given(self, name: str, device: str) -> Given | None:
        """Return what a server was given as a device."""
        for mode in self._modes.values():
            if number := mode.recorded(name).get(device):
                return Given(mode, number)
        return None

    def _all_given(self, name: str) -> dict[str, Given]:
        """Return what a server was given, by the names of the devices."""
        return {
            device: Given(mode, number)
            for mode in self._modes.values()
            for device, number in mode.recorded(name).items()
        }

    def _make_ephemerals(
        self, instance: objects.Instance, mode: Mode, block_device_info: Any
    ) -> None:
        """Give a server that does not exist yet its ephemeral disks."""
        if wanted := _ephemerals(block_device_info):
            if Guest(self._client, instance).exists():
                # The disks are those of the server that exists.
                raise exception.InstanceExists(name=instance.name)
            ephemerals.make(instance.uuid, wanted)
            ephemerals.connect(instance.uuid, mode)

    def _reconnect(self, instance: objects.Instance, mode: Mode, disk: Disk) -> None:
        """Give a volume to a server that does not run."""
        with (
            _lock(disk),
            _failing(disk),
            self._connected(instance, disk) as path,
        ):
            self._give(instance, mode, disk, path, None)
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
        others = self._owners(number) if number else ()
        if others:
            LOG.info("Volume %s stays connected: %s has it", disk.volume_id, others[0])
            return
        connections.disconnect(disk.connection_info)

    def _owners(self, number: str) -> list[str]:
        """Return the names of the servers that were given a device."""
        return [name for mode in self._modes.values() for name in mode.owners(number)]

    def _give(
        self,
        instance: objects.Instance,
        mode: Mode,
        disk: Disk,
        path: str,
        process: tuple[int, str] | None,
    ) -> None:
        """Give a volume to a server, which has nothing else in its place then.

        :param process: as :meth:`_process` returns it
        """
        name = naming.name_of(instance.uuid)
        wanted = Given(mode, devices.number_of(path))
        if (before := self._given(name, disk.device)) not in (None, wanted):
            # An attempt to detach it was interrupted.
            self._take(instance, before, disk.device)
            before.mode.forget(name, disk.device)
        if not process:
            mode.renew(name, disk.device)
        mode.give(name, disk.device, path, read_only=disk.read_only)
        try:
            if process:
                with contextlib.suppress(ProcessLookupError):
                    mode.insert(instance, name, disk.device, process)
        except Exception:
            with excutils.save_and_reraise_exception():
                mode.forget(name, disk.device)

    def _take(self, instance: objects.Instance, given: Given, device: str) -> None:
        """Take a volume from a server that runs.

        :raises DeviceDetachFailed: if it is in use
        """
        process = self._process(instance)
        if not process:
            return
        level = Guest(self._client, instance).namespaces().level
        if reason := given.mode.why_not_hot(instance, level):
            raise exception.DeviceDetachFailed(
                device=f"/dev/{device}",
                reason=f"{reason}; stop the server before you detach it",
            )
        name = naming.name_of(instance.uuid)
        given.mode.take(name, device, given.number, process)

    def _forget_all(self, instance: objects.Instance, wanted: list[Disk]) -> None:
        """Disconnect all volumes of a server that does not run."""
        name = naming.name_of(instance.uuid)
        given = self._all_given(name)
        kept = set()
        for device in given.keys() - set(ephemerals.names(instance.uuid)):
            try:
                given[device].mode.forget(name, device)
            except OSError as error:
                kept.add(device)
                LOG.warning(
                    "The volume at /dev/%s stays connected: %s",
                    device,
                    error,
                    instance=instance,
                )
        for disk in wanted:
            if disk.device in kept:
                continue
            try:
                found = given.get(disk.device)
                number = found.number if found else None
                with _lock(disk):
                    self._disconnect(
                        disk, number or connections.number(disk.connection_info)
                    )
            except Exception:
                LOG.warning(
                    "Failed to disconnect volume %s",
                    disk.volume_id,
                    instance=instance,
                    exc_info=True,
                )


def _forget(mode: Mode, name: str, device: str) -> None:
    """Take a volume from a server in which it is not any more.

    :raises DeviceDetachFailed: if something else of the host uses it
    """
    try:
        mode.forget(name, device)
    except OSError as error:
        raise exception.DeviceDetachFailed(
            device=f"/dev/{device}", reason=printable(error.strerror or str(error))
        ) from error


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
