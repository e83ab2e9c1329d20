# SPDX-License-Identifier: Apache-2.0
"""Manila's shares: file systems that a server gets at :data:`TOP`, by their tags.

Nova lets Manila allow the host access, has the driver mount a share before it starts
the server, and unmount it after the server has stopped. The OCI runtime binds what is
mounted for a server into it, before its first process.

Each server has mounts of its own. So nobody has to count who uses a mount, and a server
has no access by another one's identity: Nova gets one of CephFS for each server. The
kernel shares an NFS client between equal mounts.

This is not Nova's code for libvirt (``nova.virt.libvirt.volume.mount``), which waits
for ever for storage that does not answer and forgets who uses a mount when nova-compute
restarts. What is mounted is the same.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from collections.abc import Callable
from collections.abc import Container as Contains
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import psutil
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.objects import fields
from oslo_log import log as logging
from oslo_utils import excutils
from oslo_utils import uuidutils

from nova_docker import config_drive
from nova_docker.container import naming
from nova_docker.privsep import shares as privileged

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

#: Where a server finds its shares; lib/nova-docker/shares.py mounts them there.
TOP = "/mnt/shares"

_KINDS = {fields.ShareMappingProto.NFS: "nfs", fields.ShareMappingProto.CEPHFS: "ceph"}

# Nova's API allows the same, and a line break at the end.
_TAG = re.compile(r"[a-zA-Z0-9-]{1,255}")
# Neither a set-user-id program nor a device node of a share has any effect, whatever
# else the operator's options say.
_ALWAYS = ("nosuid", "nodev")


class Mounted(NamedTuple):
    """A share that is mounted.

    :ivar server: name of the server, as that of its network namespace
    :ivar share: ID of the share
    :ivar tag: name that the share has in the server
    """

    server: str
    share: str
    tag: str


def mounted(points: Iterable[str]) -> list[Mounted]:
    """Return the shares among the mount points of the host."""
    top = f"{privileged.DIRECTORY}/"
    names = (point[len(top) :].split("/") for point in points if point.startswith(top))
    return [Mounted(*found) for found in names if len(found) == len(Mounted._fields)]


def refuse(mapping: objects.ShareMapping) -> None:
    """Refuse a share that cannot be mounted.

    :raises ShareProtocolNotSupported: if its protocol is unknown
    :raises ShareMountError: if its tag could be no name of a directory
    """
    if mapping.share_proto not in _KINDS:
        raise exception.ShareProtocolNotSupported(share_proto=mapping.share_proto)
    if not _TAG.fullmatch(mapping.tag):
        raise _not_mounted(
            mapping,
            f"its tag {mapping.tag!r} may only have letters, digits and hyphens; "
            "detach the share and attach it with another tag",
        )
    if not uuidutils.is_uuid_like(mapping.share_id):
        raise _not_mounted(mapping, "its ID is not a UUID")


def options(mapping: objects.ShareMapping, operators: str | None) -> str:
    """Return the options with which a share is mounted, comma-separated.

    :param operators: the configured ones, comma-separated
    :raises ShareMountError: if Manila's credentials would be several options
    """
    found = [operators] if operators else []
    if mapping.share_proto == fields.ShareMappingProto.CEPHFS:
        for name, value in (
            ("name", mapping.access_to),
            ("secret", mapping.access_key),
        ):
            if "," in (value or ","):
                raise _not_mounted(mapping, f"Manila gives no usable {name} of CephFS")
            found.append(f"{name}={value}")
    return ",".join([*found, *_ALWAYS])


# Until when a storage server that has not answered is not asked again
_silent: dict[str, float] = {}


def mount(instance: objects.Instance, mapping: objects.ShareMapping) -> None:
    """Mount a share for a server, unless it is. Serves ComputeDriver.mount_share.

    Nova does not call it twice for one share at the same time.

    :raises ShareMountError: if that fails; nothing is left behind
    :raises ShareProtocolNotSupported: if the protocol is unknown
    """
    refuse(mapping)
    server = naming.name_of(instance.uuid)
    kind = _KINDS[mapping.share_proto]
    found = options(mapping, CONF.docker[f"{kind}_mount_options"])
    with _asking(mapping):
        if _is_there(server, mapping):
            return
        LOG.info(
            "Mounting share %s of %s",
            mapping.share_id,
            mapping.export_location,
            instance=instance,
        )
        privileged.mount(
            *(server, mapping.share_id, mapping.tag),
            kind,
            mapping.export_location,
            found,
            CONF.docker.share_timeout,
        )


def unmount(instance: objects.Instance, mapping: objects.ShareMapping) -> bool:
    """Unmount a share of a server, if it is mounted.

    Serves ComputeDriver.umount_share. A server that runs keeps the share.

    :returns: whether another server needs the access that Manila gives this one
    :raises ShareUmountError: if it cannot be unmounted
    """
    try:
        for found in _of(naming.name_of(instance.uuid), mapping.share_id):
            LOG.info("Unmounting share %s", found.share, instance=instance)
            privileged.unmount(*found, CONF.docker.share_timeout)
    except OSError as error:
        raise exception.ShareUmountError(
            share_id=mapping.share_id, server_id=instance.uuid, reason=error
        ) from error
    # With CephFS, each server has an identity of its own.
    shared = mapping.share_proto == fields.ShareMappingProto.NFS
    return shared and is_mounted(mapping)


def is_mounted(mapping: objects.ShareMapping) -> bool:
    """Return whether any server of the host has a share mounted."""
    return any(found.share == mapping.share_id for found in _mounted())


@contextlib.contextmanager
def bound(
    context: Any,
    instance: objects.Instance,
    wanted: Iterable[objects.ShareMapping] | None,
    runs: Callable[[objects.Instance], bool],
) -> Iterator[None]:
    """Let a server that starts in the block have these shares, and no others.

    If the block fails and the server does not run, none is left mounted.

    :param wanted: None to change nothing, where Nova does not pass them
    :param runs: tells whether a server runs
    :raises InstancePowerOnFailure: if one is not mounted
    """
    if wanted is None:
        yield
        return
    try:
        _settle(instance, {(each.share_id, each.tag) for each in wanted}, runs)
        config_drive.note_shares(context, instance, wanted)
        yield
    except Exception:
        with excutils.save_and_reraise_exception():
            if _of(naming.name_of(instance.uuid)) and not runs(instance):
                release(instance.uuid)


def release(uuid: str) -> None:
    """Unmount all shares of a server; log what fails."""
    for found in _of(naming.name_of(uuid)):
        try:
            privileged.unmount(*found, CONF.docker.share_timeout)
        except OSError as error:
            LOG.warning(
                "Failed to unmount share %s of server %s, which is tried again when "
                "nova-compute starts: %s",
                found.share,
                uuid,
                error,
            )


def sweep(servers: Contains[str]) -> None:
    """Unmount the shares of servers that do not exist.

    :param servers: UUIDs of the servers that the engine has
    """
    for server in {found.server for found in _mounted()}:
        uuid = server.removeprefix(naming.PREFIX)
        if uuid not in servers:
            LOG.warning("Unmounting the shares of server %s, which is gone", uuid)
            release(uuid)


def _is_there(server: str, mapping: objects.ShareMapping) -> bool:
    """Return whether a server has a share, and unmount one that does not answer.

    :raises OSError: if it cannot be unmounted
    """
    for found in _of(server, mapping.share_id):
        if found.tag == mapping.tag:
            try:
                privileged.ask(*found, CONF.docker.share_timeout)
                return True
            except OSError as error:
                LOG.warning("Mounting share %s again: %s", found.share, error)
        privileged.unmount(*found, CONF.docker.share_timeout)
    return False


def _settle(
    instance: objects.Instance,
    wanted: set[tuple[str, str]],
    runs: Callable[[objects.Instance], bool],
) -> None:
    """Unmount what a server that does not run must not have.

    :raises InstancePowerOnFailure: if something is missing, or cannot be unmounted
    """
    server = naming.name_of(instance.uuid)
    present = {(found.share, found.tag) for found in _of(server)}
    if present == wanted or runs(instance):
        return
    # What could not be unmounted in time, or was detached while Nova showed the server
    # in ERROR
    for share, tag in present - wanted:
        LOG.info("Unmounting share %s", share, instance=instance)
        try:
            privileged.unmount(server, share, tag, CONF.docker.share_timeout)
        except OSError as error:
            raise exception.InstancePowerOnFailure(
                reason=f"share {share} is detached and cannot be unmounted: {error}"
            ) from error
    if missing := sorted(share for share, _ in wanted - present):
        raise exception.InstancePowerOnFailure(
            reason=f"shares are not mounted: {', '.join(missing)}; reboot the server "
            "with --hard, which mounts them again"
        )


@contextlib.contextmanager
def _asking(mapping: objects.ShareMapping) -> Iterator[None]:
    """Translate errors, and do not ask storage again that has just not answered.

    When nova-compute starts after the host, Nova mounts the shares of one server after
    the other.
    """
    storage = mapping.export_location.rpartition(":/")[0]
    if time.monotonic() < _silent.get(storage, 0):
        raise _not_mounted(mapping, f"{storage} has just not answered; try later")
    try:
        yield
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            _silent[storage] = time.monotonic() + CONF.docker.share_timeout
        raise _not_mounted(mapping, str(error)) from error


def _mounted() -> list[Mounted]:
    # As Nova does: this list asks no file system.
    return mounted(part.mountpoint for part in psutil.disk_partitions(all=True))


def _of(server: str, share: str | None = None) -> list[Mounted]:
    """Return the shares that are mounted for a server, or one of them."""
    return [
        found
        for found in _mounted()
        if found.server == server and share in (None, found.share)
    ]


def _not_mounted(
    mapping: objects.ShareMapping, reason: str
) -> exception.ShareMountError:
    return exception.ShareMountError(
        share_id=mapping.share_id, server_id=mapping.instance_uuid, reason=reason
    )
