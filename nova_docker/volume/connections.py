# SPDX-License-Identifier: Apache-2.0
"""Connections of the host to volumes, which os-brick makes.

Nothing here knows a protocol. If the volume is a file, as with NFS, a loop device makes
a block device of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import utils
from nova.virt import block_device
from os_brick import exception as brick_exception
from os_brick.initiator import connector
from oslo_log import log as logging
from oslo_utils import excutils

from nova_docker.privsep import devices
from nova_docker.privsep import loops

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# Of files: others would be presented to the server with their headers.
_RAW = (None, "raw")


def properties() -> dict[str, Any]:
    """Return what Cinder needs to know of the host.

    Serves ComputeDriver.get_volume_connector.
    """
    found: dict[str, Any] = connector.get_connector_properties(
        utils.get_root_helper(),
        CONF.my_block_storage_ip,
        CONF.docker.volume_use_multipath,
        enforce_multipath=CONF.docker.volume_enforce_multipath,
        host=CONF.host,
    )
    return found


def connect(connection_info: dict[str, Any]) -> str:
    """Connect the host to a volume. Calling it again has no effect.

    If that fails, the host is not connected.

    :param connection_info: from Cinder; what is needed to disconnect is added
    :returns: the path of a block device
    :raises VolumeAttachFailed: if the volume is of a kind that a server cannot have
    :raises Exception: what os-brick raises
    """
    if connection_info["data"].get("encrypted"):
        # Volumes stay connected while servers are stopped, and are connected again
        # when they start. An encryptor of os-brick that is called again takes the
        # decrypted device for a new one, and formats it.
        raise exception.VolumeAttachFailed(
            volume_id=block_device.get_volume_id(connection_info),
            reason="it is encrypted, which the Docker driver does not support",
        )
    found = _connector(connection_info).connect_volume(connection_info["data"])
    with _disconnected_on_failure(connection_info):
        data = connection_info["data"]
        data["device_path"] = str(found["path"])
        if "multipath_id" in found:
            data["multipath_id"] = found["multipath_id"]
        made = _block_device(connection_info)
    LOG.debug("Volume %s is %s", block_device.get_volume_id(connection_info), made)
    return made


def disconnect(connection_info: dict[str, Any]) -> None:
    """Disconnect the host from a volume. Calling it again has no effect.

    :param connection_info: as :func:`connect` has left it
    :raises Exception: what os-brick raises
    """
    # Nova has none of an attachment that has failed early.
    if not connection_info.get("driver_volume_type"):
        return
    data = connection_info["data"]
    if _is_file(data.get("device_path")):
        loops.detach(data["device_path"])
    try:
        _connector(connection_info).disconnect_volume(data, None)
    except brick_exception.VolumeDeviceNotFound as error:
        LOG.warning("A volume is disconnected already: %s", error)


def extend(connection_info: dict[str, Any]) -> None:
    """Make the host see the new size of a volume.

    :param connection_info: as :func:`connect` has left it
    :raises VolumeExtendFailed: if it does not
    :raises Exception: what os-brick raises
    """
    path = connection_info["data"].get("device_path")
    if _is_file(path):
        loops.refresh(path)
        return
    size = _connector(connection_info).extend_volume(connection_info["data"])
    if size is None:
        raise exception.VolumeExtendFailed(
            volume_id=block_device.get_volume_id(connection_info),
            reason="os-brick does not see the new size; see the nova-compute log",
        )


def path(connection_info: dict[str, Any]) -> str | None:
    """Return the path of the block device of a volume, None if it is unknown.

    :param connection_info: as :func:`connect` has left it
    """
    found = (connection_info.get("data") or {}).get("device_path")
    if not (found and os.path.exists(found)):
        return None
    return loops.of(found) if _is_file(found) else os.path.realpath(found)


def number(connection_info: dict[str, Any]) -> str | None:
    """Return the number of the block device of a volume, None if it is unknown.

    :param connection_info: as :func:`connect` has left it
    """
    found = path(connection_info)
    if not found:
        return None
    return devices.number_of(found)


@contextlib.contextmanager
def _disconnected_on_failure(connection_info: dict[str, Any]) -> Iterator[None]:
    try:
        yield
    except Exception:
        with excutils.save_and_reraise_exception():
            try:
                disconnect(connection_info)
            except Exception:
                LOG.exception("Failed to disconnect a volume that cannot be used")


def _connector(connection_info: dict[str, Any]) -> Any:
    return connector.InitiatorConnector.factory(
        connection_info["driver_volume_type"],
        utils.get_root_helper(),
        use_multipath=CONF.docker.volume_use_multipath,
        device_scan_attempts=CONF.docker.num_volume_scan_tries,
        enforce_multipath=CONF.docker.volume_enforce_multipath,
        # A device of the host's kernel, where it would be a library's otherwise
        do_local_attach=True,
        conn={"mount_point_base": CONF.docker.volume_mount_point_base},
    )


def _block_device(connection_info: dict[str, Any]) -> str:
    data = connection_info["data"]
    if not _is_file(data["device_path"]):
        return os.path.realpath(data["device_path"])
    if data.get("format") not in _RAW:
        raise exception.VolumeAttachFailed(
            volume_id=block_device.get_volume_id(connection_info),
            reason=f"it is a file in the format {data['format']}, of which the kernel "
            "makes no block device; use raw volumes (in cinder.conf, "
            "nfs_qcow2_volumes = false)",
        )
    return loops.attach(data["device_path"], read_only=data.get("access_mode") == "ro")


def _is_file(path: str | None) -> bool:
    try:
        return path is not None and stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
