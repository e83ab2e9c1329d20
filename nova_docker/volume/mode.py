# SPDX-License-Identifier: Apache-2.0
"""What servers get of a volume that the host is connected to: the interface.

There is one class for each mode of :mod:`nova_docker.container.volume_mode`. A server
is *given* a volume on the host, which its next start makes effective; one that runs has
it *inserted* as well. What a server was given is recorded, and may be given again.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable

from nova import exception
from nova import objects

from docker_engine.printable import printable
from nova_docker.container import quota
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.volume import disks
from nova_docker.volume.disks import Disk

#: Returns why no server that runs can get or lose a block device, or None.
Reason = Callable[[], str | None]
#: The first process of a server, and the engine's ID of its container
Process = tuple[int, str]


class Mode(abc.ABC):
    """How servers have their volumes. A server's name is that of its container."""

    @abc.abstractmethod
    def refuse(self, level: str, disk: Disk) -> None:
        """Refuse a volume that a server cannot have, before anything is done.

        :param level: the server's, of :mod:`nova_docker.container.isolation`
        :raises InvalidInput: if so
        """

    @abc.abstractmethod
    def why_not_hot(self, instance: objects.Instance, level: str) -> str | None:
        """Return why a server that runs cannot get or lose a volume, or None."""

    @abc.abstractmethod
    def give(self, server: str, device: str, path: str, *, read_only: bool) -> None:
        """Give a volume to a server.

        :param path: of the volume's block device
        :raises OSError: if the kernel refuses
        :raises VolumeAttachFailed: if a server cannot have what is on it
        """

    @abc.abstractmethod
    def renew(self, server: str, device: str) -> None:
        """Prepare to give a volume again to a server that does not run."""

    @abc.abstractmethod
    def forget(self, server: str, device: str) -> None:
        """Take a volume from a server in which it is not, or no longer.

        :raises OSError: EBUSY if it is in use
        """

    @abc.abstractmethod
    def recorded(self, server: str) -> dict[str, str]:
        """Return the numbers of the devices that a server was given, by their names."""

    @abc.abstractmethod
    def owners(self, number: str) -> list[str]:
        """Return the names of the servers that were given a device."""

    @abc.abstractmethod
    def insert(
        self, instance: objects.Instance, server: str, device: str, process: Process
    ) -> None:
        """Let a server that runs have a volume that it was given.

        :raises ProcessLookupError: if it does not run any more
        :raises OSError: if the kernel refuses
        """

    @abc.abstractmethod
    def remove(self, server: str, device: str, number: str, process: Process) -> None:
        """Take a volume from a server that runs.

        :raises ProcessLookupError: if it does not run any more
        :raises OSError: EBUSY if it is in use
        """

    @abc.abstractmethod
    def users(self, number: str, container: str) -> list[str]:
        """Return some processes of a server that use a volume, for a message."""

    @abc.abstractmethod
    def extend(self, number: str) -> None:
        """Let servers see that a volume has grown, of which the host knows already.

        :raises OSError: if that fails
        """

    @abc.abstractmethod
    def refuse_swap(self) -> None:
        """Refuse to replace a volume by another one.

        :raises VolumeRebaseFailed: if so
        """

    def take(self, server: str, device: str, number: str, process: Process) -> None:
        """Take a volume from a server that runs, as :meth:`remove` does.

        :raises DeviceDetachFailed: if it is in use; with who uses it
        """
        try:
            # It may have ended meanwhile.
            with contextlib.suppress(ProcessLookupError):
                self.remove(server, device, number, process)
        except OSError as error:
            users = ", ".join(self.users(number, process[1]))
            raise exception.DeviceDetachFailed(
                device=f"/dev/{device}",
                reason=printable(
                    f"{error.strerror or error}; processes of the server that use it: "
                    f"{users or 'unknown'}. End them, or stop the server"
                ),
            ) from error


class BlockDevices(Mode):
    """A volume is a block device in the server's /dev."""

    def __init__(self, why_not_hot: Reason) -> None:
        self._why_not_hot = why_not_hot

    def refuse(self, level: str, disk: Disk) -> None:
        disks.refuse_level(level)

    def why_not_hot(self, instance: objects.Instance, level: str) -> str | None:
        return self._why_not_hot()

    def give(self, server: str, device: str, path: str, *, read_only: bool) -> None:
        # Nobody may write beneath a file system of the kernel.
        if others := filesystems.owners(devices.number_of(path)):
            raise OSError(f"the host has mounted the volume for {others[0]}")
        devices.record(server, device, path, read_only=read_only)

    def renew(self, server: str, device: str) -> None:
        """Do nothing: a record is replaced."""

    def forget(self, server: str, device: str) -> None:
        devices.forget(server, device)

    def recorded(self, server: str) -> dict[str, str]:
        return devices.recorded(server)

    def owners(self, number: str) -> list[str]:
        return devices.owners(number)

    def insert(
        self, instance: objects.Instance, server: str, device: str, process: Process
    ) -> None:
        devices.insert(server, device, *process, limits=quota.reads(instance.flavor))

    def remove(self, server: str, device: str, number: str, process: Process) -> None:
        devices.remove(server, device, number, *process)

    def users(self, number: str, container: str) -> list[str]:
        return devices.users(number, container)

    def extend(self, number: str) -> None:
        """Do nothing: the kernel knows the size of a device."""

    def refuse_swap(self) -> None:
        """Do nothing: block devices can be swapped."""
