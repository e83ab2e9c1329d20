# SPDX-License-Identifier: Apache-2.0
"""What Nova asks for in terms of disks, and what a container cannot have of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from nova import exception
from nova.virt import block_device
from oslo_utils import units

from nova_docker.container import isolation
from nova_docker.container import volume_mode
from nova_docker.volume.superblocks import DRIVERS

#: Of servers without another one. The root disk is no device, but volumes are named
#: after it: /dev/vdb, /dev/vdc, …
ROOT_DEVICE = "/dev/vda"

# Everything else in a server's /dev is its own or the kernel's.
_DEVICE = re.compile(r"/dev/((?:vd|sd|hd|xvd)[a-z]{1,2})")

#: Those of new ephemeral disks, with the arguments of their mkfs up to the label.
#: There is nothing to discard in a new file, which may be preallocated.
FILE_SYSTEMS = {
    "ext2": ("-q", "-F", "-E", "nodiscard", "-L"),
    "ext3": ("-q", "-F", "-E", "nodiscard", "-L"),
    "ext4": ("-q", "-F", "-E", "nodiscard", "-L"),
    "xfs": ("-q", "-K", "-L"),
    "btrfs": ("-q", "-K", "-L"),
    "vfat": ("-n",),
}
# As in libvirt's driver for Linux
_FILE_SYSTEM = "ext4"


class Disk(NamedTuple):
    """A volume of a server.

    :ivar device: its name in the server's /dev
    :ivar connection_info: how Cinder says that a host connects to it
    :ivar record: Nova's, None if Nova itself saves the connection info
    """

    device: str
    connection_info: dict[str, Any]
    record: Any = None

    @property
    def volume_id(self) -> str:
        return str(block_device.get_volume_id(self.connection_info))

    @property
    def read_only(self) -> bool:
        data = self.connection_info.get("data") or {}
        return data.get("access_mode") == "ro"

    def save(self) -> None:
        """Have Nova keep what was added to the connection info."""
        if self.record is not None:
            self.record["connection_info"] = self.connection_info
            self.record.save()


class Ephemeral(NamedTuple):
    """An ephemeral disk of a server.

    :ivar device: its name in the server's /dev
    :ivar size: in bytes
    :ivar file_system: one of :data:`FILE_SYSTEMS`
    :ivar label: of the file system
    """

    device: str
    size: int
    file_system: str
    label: str


def device_of(mountpoint: str) -> str:
    """Return the name of a device in /dev.

    :param mountpoint: its path, as Nova names it
    :raises InvalidDevicePath: if it is not that of a disk
    """
    found = _DEVICE.fullmatch(mountpoint)
    if not found:
        raise exception.InvalidDevicePath(path=mountpoint)
    return found[1]


def of(block_device_info: Mapping[str, Any] | None) -> list[Disk]:
    """Return the volumes of a server.

    :param block_device_info: as ComputeDriver.spawn receives it
    :raises InvalidDevicePath: if one cannot have its name
    """
    return [
        Disk(device_of(volume["mount_device"]), volume["connection_info"], volume)
        for volume in (block_device_info or {}).get("block_device_mapping") or ()
    ]


def ephemerals(
    block_device_info: Mapping[str, Any] | None, default: str | None
) -> list[Ephemeral]:
    """Return the ephemeral disks of a server.

    :param block_device_info: as ComputeDriver.spawn receives it
    :param default: Nova's ``default_ephemeral_format``
    :raises InvalidDevicePath: if one cannot have its name
    """
    return [
        Ephemeral(
            device_of(disk["device_name"]),
            disk["size"] * units.Gi,
            disk.get("guest_format") or default or _FILE_SYSTEM,
            f"ephemeral{number}",
        )
        for number, disk in enumerate((block_device_info or {}).get("ephemerals") or ())
    ]


def ephemeral_gb(block_device_info: Mapping[str, Any] | None) -> int:
    """Return the size of all ephemeral disks of a server, in GiB."""
    return sum(
        disk["size"] for disk in (block_device_info or {}).get("ephemerals") or ()
    )


def refuse(
    block_device_info: Mapping[str, Any] | None,
    level: str,
    default: str | None = None,
    mode: str = volume_mode.DEVICE,
) -> None:
    """Refuse a server that would not get the disks that it requests.

    :param block_device_info: as ComputeDriver.spawn receives it
    :param level: of :mod:`nova_docker.container.isolation`
    :param default: as for :func:`ephemerals`
    :param mode: of :mod:`nova_docker.container.volume_mode`
    :raises InvalidInput: naming what it cannot have
    """
    info = block_device_info or {}
    volumes = info.get("block_device_mapping") or ()
    if any(volume.get("boot_index") == 0 for volume in volumes):
        raise exception.InvalidInput(
            reason="a container cannot boot from a volume: its root disk consists of "
            "the layers of its image, which the Docker engine keeps on the host. "
            "Create the server from an image and attach the volume to it"
        )
    if mode == volume_mode.DEVICE and (volumes or info.get("ephemerals")):
        refuse_level(level)
    for volume in volumes:
        _refuse_name(volume.get("mount_device"))
    for disk in ephemerals(info, default):
        _refuse_ephemeral(disk)
        if mode == volume_mode.FILE_SYSTEM and disk.file_system not in DRIVERS:
            raise exception.InvalidInput(
                reason="an ephemeral disk with the format "
                f"{disk.file_system} cannot be mounted; use one of {', '.join(DRIVERS)}"
            )


def refuse_level(level: str) -> None:
    """Refuse block devices for a server that could not use them.

    :raises InvalidInput: if so
    """
    if level == isolation.GVISOR:
        raise exception.InvalidInput(
            reason="a server with docker:isolation=gvisor cannot have volumes or "
            "ephemeral disks, because gVisor's kernel has no block devices; use a "
            "flavor with another isolation, or with docker:volume_mode=filesystem"
        )


def _refuse_ephemeral(disk: Ephemeral) -> None:
    """Refuse an ephemeral disk that the host cannot make.

    :raises InvalidInput: if so
    """
    if disk.file_system not in FILE_SYSTEMS:
        raise exception.InvalidInput(
            reason=f"an ephemeral disk cannot have the format {disk.file_system!r}; "
            f"use one of {', '.join(FILE_SYSTEMS)}"
        )
    if disk.size <= 0:
        raise exception.InvalidInput(
            reason="an ephemeral disk needs a size; use a flavor with an ephemeral disk"
        )


def _refuse_name(mountpoint: str | None) -> None:
    try:
        device_of(mountpoint or "")
    except exception.InvalidDevicePath as error:
        raise exception.InvalidInput(reason=error.format_message()) from error
