# SPDX-License-Identifier: Apache-2.0
"""lxcfs, whose files show servers their own CPUs, memory and uptime.

The OCI runtime binds these files into a server at each start, if lxcfs answers then.
When lxcfs ends, servers that run can no longer read them. When it runs again, it is
another file system, which :class:`Lxcfs` gives them instead.
"""

from __future__ import annotations

import pathlib
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

from nova import conf as nova_conf
from nova import exception
from nova import objects
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker.guest import Guest
from nova_docker.guest import list_servers
from nova_docker.privsep import lxcfs as privileged

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_KIND = "fuse.lxcfs"
_PROC = pathlib.Path("/proc")
# For how long lxcfs, or a container, may delay Nova's periodic tasks and its start
_SECONDS_TO_ANSWER = 2
_CALL_SECONDS = 5
# States of containers, as the engine lists them, that have processes
_IN_USE = ("running", "paused")


class Mount(NamedTuple):
    """A mount of lxcfs, or of one of its files.

    :ivar device: the kernel's number of the file system, another one for each lxcfs
    :ivar root: path of what is mounted, in the file system
    :ivar point: where it is mounted
    """

    device: str
    root: str
    point: str


def mounts(mountinfo: str) -> Iterator[Mount]:
    """Yield the mounts of lxcfs.

    :param mountinfo: content of /proc/PID/mountinfo, see proc(5)
    """
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] == _KIND:
            yield Mount(*left.split(" ")[2:5])


def device_at(point: str, mountinfo: str) -> str | None:
    """Return the number of the lxcfs that is mounted at a path, if one is."""
    found = [mount.device for mount in mounts(mountinfo) if mount.point == point]
    return found[-1] if found else None


def stale(mountinfo: str, device: str) -> list[str]:
    """Return the files of a server that belong to another lxcfs.

    :param mountinfo: of the server
    :param device: number of the lxcfs that runs
    """
    return [
        mount.point
        for mount in mounts(mountinfo)
        if mount.device != device and mount.point == mount.root
    ]


class Lxcfs:
    """The lxcfs of a host, which an operator may restart at any time."""

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._answered = True
        # The number of the lxcfs whose files all servers have
        self._device: str | None = None

    def renew(self) -> None:
        """Give servers the files of an lxcfs that was restarted. Never raises.

        It looks at servers only if it has not found another lxcfs before.
        """
        point = CONF.docker.lxcfs
        if not point:
            return
        device = device_at(point, (_PROC / "self/mountinfo").read_text())
        if device is None or not _answers(point):
            self._warn(point)
            return
        if not self._answered:
            LOG.info("lxcfs at %s answers again", point)
            self._answered = True
        # One that is just starting may still get the old files: look once more later.
        if device != self._device and not self._renew_all(point, device):
            self._device = device

    def _warn(self, point: str) -> None:
        if self._answered:
            LOG.warning(
                "lxcfs at %s does not answer: servers that run cannot read some files "
                "in /proc, and servers that start see the host's; restart lxcfs",
                point,
            )
        self._answered = False

    def _renew_all(self, point: str, device: str) -> bool:
        """Return whether a server has, or may have, files of another lxcfs."""
        try:
            servers = list_servers(self._client)
        except exception.NovaException as error:
            LOG.warning("Failed to list the servers that have lxcfs: %s", error)
            return True
        found = [
            self._renew(uuid, point, device)
            for uuid, item in servers.items()
            if item["State"] in _IN_USE
        ]
        return any(found)

    def _renew(self, uuid: str, point: str, device: str) -> bool:
        """Return whether a server had, or may still have, files of another lxcfs."""
        instance = objects.Instance(uuid=uuid)
        try:
            process = Guest(self._client, instance).first_process(_CALL_SECONDS)
            if process is None:
                return False
            files = stale(_mountinfo(process[0]), device)
            if files:
                privileged.renew(point, files, *process)
                LOG.info(
                    "Gave the server the files of the new lxcfs", instance=instance
                )
            return bool(files)
        except (exception.InstanceNotFound, ProcessLookupError):
            return False  # It has ended meanwhile.
        # Whatever it is: one server must not keep the host's others from being managed.
        except Exception:
            LOG.warning(
                "Failed to give the server the files of the new lxcfs",
                instance=instance,
                exc_info=True,
            )
            return True


def _mountinfo(pid: int) -> str:
    """Return the mounts of a process, which every user may read.

    :raises ProcessLookupError: if it has ended
    """
    try:
        # The server chooses the names.
        return (_PROC / str(pid) / "mountinfo").read_text(errors="surrogateescape")
    except FileNotFoundError as error:
        raise ProcessLookupError from error


def _answers(point: str) -> bool:
    """Return whether lxcfs answers in time.

    Nothing but its end interrupts a process that waits for lxcfs: a child asks.
    """
    asking = subprocess.Popen(
        ["cat", f"{point}/proc/uptime"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return asking.wait(_SECONDS_TO_ANSWER) == 0
    except subprocess.TimeoutExpired:
        # It is not waited for, which might be for ever.
        asking.kill()
        return False
