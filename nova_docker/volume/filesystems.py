# SPDX-License-Identifier: Apache-2.0
"""Volumes whose file systems the host mounts, and binds into servers at /mnt/<device>.

A volume is formatted only if it is blank, and else left as it is. Whoever could write
the volume elsewhere has chosen what the kernel of the host parses here: the operator
has to allow it.
"""

from __future__ import annotations

import uuid
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import objects
from oslo_log import log as logging

from nova_docker.container import isolation
from nova_docker.container import quota
from nova_docker.container import volume_mode
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.volume import superblocks
from nova_docker.volume.disks import Disk
from nova_docker.volume.mode import Mode
from nova_docker.volume.mode import Process
from nova_docker.volume.mode import Reason

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# What mkfs leaves out at the end of a volume, and may round
_SLACK = 4 << 20


class FileSystems(Mode):
    """A volume is a directory of the server, in which its file system is mounted."""

    def __init__(self, why_not_hot: Reason) -> None:
        self._why_no_limits = why_not_hot

    def refuse(self, level: str, disk: Disk) -> None:
        volume_mode.refuse(volume_mode.FILE_SYSTEM, mounts=CONF.docker.mount_volumes)
        if disk.connection_info.get("multiattach"):
            raise exception.InvalidInput(
                reason=f"volume {disk.volume_id} can be attached to several servers, "
                "and a file system that two hosts mount is destroyed; use servers "
                "with docker:volume_mode=device"
            )

    def why_not_hot(self, instance: objects.Instance, level: str) -> str | None:
        if level == isolation.GVISOR:
            return "gVisor takes the file systems when the server starts"
        if quota.reads(instance.flavor) and (reason := self._why_no_limits()):
            return f"the flavor limits reads: {reason}"
        return None

    def give(self, server: str, device: str, path: str, *, read_only: bool) -> None:
        # Also for a server of the time before the operator has forbidden it
        volume_mode.refuse(volume_mode.FILE_SYSTEM, mounts=CONF.docker.mount_volumes)
        if device in filesystems.recorded(server):
            return
        number = devices.number_of(path)
        if others := [*filesystems.owners(number), *devices.owners(number)]:
            raise OSError(f"{others[0]} has the volume, too")
        driver, found = _prepared(path, read_only=read_only)
        options = superblocks.options(driver, read_only=read_only)
        filesystems.mount(server, device, path, driver, options)
        size = superblocks.size(driver, found["first"])
        if not read_only and size + _SLACK <= found["size"]:
            self._grow(server, device, path, driver)

    def renew(self, server: str, device: str) -> None:
        # An error may have made it read-only.
        filesystems.unmount(server, device)

    def forget(self, server: str, device: str) -> None:
        filesystems.unmount(server, device)

    def recorded(self, server: str) -> dict[str, str]:
        return filesystems.recorded(server)

    def owners(self, number: str) -> list[str]:
        return filesystems.owners(number)

    def insert(
        self, instance: objects.Instance, server: str, device: str, process: Process
    ) -> None:
        limits = quota.reads(instance.flavor)
        filesystems.insert(server, device, *process, limits=limits)

    def remove(self, server: str, device: str, number: str, process: Process) -> None:
        filesystems.remove(number, *process)

    def users(self, number: str, container: str) -> list[str]:
        return filesystems.users(number, container)

    def extend(self, number: str) -> None:
        for found in filesystems.mounted():
            if found.number == number:
                path = devices.path_of(number)
                filesystems.grow(found.server, found.device, path, found.driver)

    def refuse_swap(self) -> None:
        raise exception.VolumeRebaseFailed(
            reason="the volume is mounted (docker:volume_mode=filesystem), and cannot "
            "be copied meanwhile; detach it before you migrate or retype it"
        )

    def _grow(self, server: str, device: str, path: str, driver: str) -> None:
        """Grow a file system whose volume has grown while it was not mounted."""
        try:
            filesystems.grow(server, device, path, driver)
        except OSError as error:
            LOG.warning(
                "The file system of %s for %s keeps its size: %s", path, server, error
            )


def _prepared(path: str, *, read_only: bool) -> tuple[str, dict[str, Any]]:
    """Ensure that a volume has a file system which can be mounted.

    :returns: the kernel's driver of the file system, and what is on the volume
    :raises Unmountable: if it has none
    """
    found = filesystems.look(path)
    if is_to_be_formatted(found):
        if read_only:
            raise superblocks.Unmountable(
                "it is blank, and read-only, so that it cannot be formatted"
            )
        LOG.info("Formatting %s, which is blank", path)
        # Nothing else on the volume has it: it tells what was made here.
        filesystems.make(path, uuid.uuid4().bytes)
        found = filesystems.look(path)
    driver = superblocks.driver_of(found["kind"])
    superblocks.refuse(driver, found["first"])
    if is_marked(found) and not read_only:
        filesystems.unmark(path)
    return driver, found


def is_to_be_formatted(found: dict[str, Any]) -> bool:
    """Return whether nothing is on a volume, and no attempt to format it has ended.

    :param found: as :func:`nova_docker.privsep.filesystems.look` returns it
    """
    return found["blank"] or (found["nothing"] and found["mark"] is not None)


def is_marked(found: dict[str, Any]) -> bool:
    """Return whether the file system of a volume is complete, but still marked.

    :param found: as :func:`nova_docker.privsep.filesystems.look` returns it
    """
    return found["mark"] == superblocks.ext_uuid(found["first"])
