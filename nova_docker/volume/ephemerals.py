# SPDX-License-Identifier: Apache-2.0
"""Ephemeral disks: files of the host, of which servers have loop devices.

They are below ``state_path``, which hosts do not share, unlike ``instances_path``. A
disk's file is named after its device, and with a dot in front until it is complete. The
files are the record of which disks a server has: they exist from its boot until it is
deleted.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
from collections.abc import Container as Contains
from collections.abc import Sequence

from nova import conf as nova_conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_concurrency import processutils
from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from docker_engine.printable import printable
from nova_docker.container import naming
from nova_docker.privsep import devices
from nova_docker.privsep import filesystems
from nova_docker.privsep import loops
from nova_docker.storage.space import DiskSpace
from nova_docker.volume.disks import FILE_SYSTEMS
from nova_docker.volume.disks import Ephemeral
from nova_docker.volume.mode import Mode

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_DIRECTORY = "docker-ephemeral-disks"

# The PATH of nova-compute may lack it.
_SBIN = ("/usr/sbin", "/sbin")


def refuse(wanted: Sequence[Ephemeral]) -> None:
    """Refuse disks that this host has no program to format.

    :raises InvalidInput: if so
    """
    for disk in wanted:
        _mkfs(disk.file_system)


def make(uuid: str, wanted: Sequence[Ephemeral]) -> None:
    """Make the disks of a new server, instead of any that a boot may have left.

    :raises InvalidInput: as :func:`refuse` does
    :raises InstanceDeployFailure: if the host has no space for them, or one cannot be
        formatted
    """
    remove(uuid)
    _path("").mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _check_space(sum(disk.size for disk in wanted))
        _path(uuid).mkdir(mode=0o700)
        for disk in wanted:
            LOG.info("Creating ephemeral disk %s", _path(uuid) / disk.device)
            _make(_path(uuid), disk)
    except (OSError, processutils.ProcessExecutionError) as error:
        raise exception.InstanceDeployFailure(
            reason=printable(f"failed to create an ephemeral disk: {error}")
        ) from error


def connect(uuid: str, mode: Mode, wanted: Sequence[Ephemeral] = ()) -> None:
    """Give a server that does not run the disks that it has.

    :param mode: how the server has them
    :param wanted: those that it must have
    :raises DiskNotFound: if it lacks one
    :raises OSError: if the kernel refuses
    """
    found = names(uuid)
    for disk in wanted:
        if disk.device not in found:
            raise exception.DiskNotFound(location=_path(uuid) / disk.device)
    for name in found:
        path = loops.attach(str(_path(uuid) / name))
        server = naming.name_of(uuid)
        mode.renew(server, name)
        mode.give(server, name, path, read_only=False)


def remove(uuid: str) -> None:
    """Remove the disks of a server without a container. It may be repeated.

    The loop device first: by the file it can be found again.

    :raises OSError: if the kernel refuses
    """
    server = naming.name_of(uuid)
    for name in names(uuid):
        devices.forget(server, name)
        if name in filesystems.recorded(server):
            filesystems.unmount(server, name)
        loops.detach(str(_path(uuid) / name))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(_path(uuid))


def sweep(servers: Contains[str]) -> None:
    """Remove the disks of servers that do not exist any more.

    A server that Nova has on this host keeps them even without a container: perhaps the
    engine's data is not mounted, and they hold what users have stored.

    :param servers: UUIDs of the servers that the engine has
    :raises NovaException: if Nova's database fails
    """
    with contextlib.suppress(FileNotFoundError):
        for found in _path("").iterdir():
            uuid = found.name
            if uuidutils.is_uuid_like(uuid) and not (
                uuid in servers or _is_of_this_host(uuid)
            ):
                LOG.warning("Removing %s, which no server uses", found)
                try:
                    remove(uuid)
                except OSError as error:
                    # It must not keep nova-compute from starting.
                    LOG.warning("Failed to remove %s: %s", found, error)


def has_any(uuid: str) -> bool:
    """Return whether a server has disks, complete or not."""
    return _path(uuid).exists()


def names(uuid: str) -> list[str]:
    """Return the names that a server's disks have in its /dev."""
    with contextlib.suppress(FileNotFoundError):
        found = sorted(path.name for path in _path(uuid).iterdir())
        return [name for name in found if not name.startswith(".")]
    return []


def _make(directory: pathlib.Path, disk: Ephemeral) -> None:
    """Make a disk and format it: a new file, in which nobody has written anything."""
    new = directory / f".{disk.device}"
    new.touch(mode=0o600, exist_ok=False)
    with new.open("r+b") as file:
        file.truncate(disk.size)
        # Nova's option for all drivers
        if CONF.preallocate_images == "space":
            os.posix_fallocate(file.fileno(), 0, disk.size)
    options = FILE_SYSTEMS[disk.file_system]
    processutils.execute(_mkfs(disk.file_system), *options, disk.label, str(new))
    new.rename(directory / disk.device)


def _mkfs(file_system: str) -> str:
    program = f"mkfs.{file_system}"
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which(program, path=path)
    if not found:
        raise exception.InvalidInput(
            reason=f"the host lacks the program {program}, which an ephemeral disk "
            "needs; use another format"
        )
    return found


def _check_space(size: int) -> None:
    """Refuse disks that could not be filled now. They take no space yet."""
    free, _ = DiskSpace(lambda: str(_path(""))).available()
    if size > free:
        raise exception.InstanceDeployFailure(
            reason=f"ephemeral disks of {size // units.Gi} GiB do not fit the host's "
            f"disk, of which {max(free, 0) // units.Mi} MiB are free"
        )


def _is_of_this_host(uuid: str) -> bool:
    try:
        found = objects.Instance.get_by_uuid(
            nova_context.get_admin_context(), uuid, expected_attrs=[]
        )
    except exception.InstanceNotFound:
        return False
    return bool(found.host == CONF.host)


def _path(uuid: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _DIRECTORY, uuid)
