# SPDX-License-Identifier: Apache-2.0
"""Connections of the host to volumes, which os-brick makes.

Nothing here knows a protocol. If the volume is a file, as with NFS, a loop device makes
a block device of it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from castellan import key_manager
from nova import conf as nova_conf
from nova import exception
from nova import utils
from nova.virt import block_device
from nova.volume import cinder
from os_brick import encryptors
from os_brick import exception as brick_exception
from os_brick.initiator import connector
from oslo_log import log as logging
from oslo_utils import excutils

from nova_docker.privsep import loops

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_MAPPER = pathlib.Path("/dev/mapper/control")
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


def connect(
    context: Any,
    connection_info: dict[str, Any],
    encryption: dict[str, Any] | None = None,
) -> str:
    """Connect the host to a volume. Calling it again has no effect.

    If that fails, the host is not connected.

    :param connection_info: from Cinder; what is needed to disconnect is added
    :param encryption: as ComputeDriver.attach_volume receives it; None to ask Cinder
    :returns: the path of a block device
    :raises VolumeAttachFailed: if the volume is of a kind that a server cannot have
    :raises Exception: what os-brick raises
    """
    encryption = _encryption(context, connection_info, encryption)
    if encryption:
        _check_encryption(connection_info)
    found = _connector(connection_info).connect_volume(connection_info["data"])
    with _disconnected_on_failure(context, connection_info, encryption):
        data = connection_info["data"]
        data["device_path"] = str(found["path"])
        if "multipath_id" in found:
            data["multipath_id"] = found["multipath_id"]
        if encryption:
            _encryptor(connection_info, encryption).attach_volume(context, **encryption)
        made = _block_device(connection_info)
    LOG.debug("Volume %s is %s", block_device.get_volume_id(connection_info), made)
    return made


def disconnect(
    context: Any,
    connection_info: dict[str, Any],
    encryption: dict[str, Any] | None = None,
) -> None:
    """Disconnect the host from a volume. Calling it again has no effect.

    :param connection_info: as :func:`connect` has left it
    :param encryption: as for :func:`connect`
    :raises Exception: what os-brick raises
    """
    # Nova has none of an attachment that has failed early.
    if not connection_info.get("driver_volume_type"):
        return
    data = connection_info["data"]
    encryption = _encryption(context, connection_info, encryption)
    if encryption and data.get("device_path"):
        _encryptor(connection_info, encryption).detach_volume(**encryption)
    if _is_file(data.get("device_path")):
        loops.detach(data["device_path"])
    try:
        _connector(connection_info).disconnect_volume(data, None)
    except brick_exception.VolumeDeviceNotFound as error:
        LOG.warning("A volume is disconnected already: %s", error)


def extend(context: Any, connection_info: dict[str, Any]) -> None:
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
    if encryption := _encryption(context, connection_info, None):
        size = _encryptor(connection_info, encryption).extend_volume(
            context, **encryption
        )
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
    device = os.stat(found).st_rdev
    return f"{os.major(device)}:{os.minor(device)}"


@contextlib.contextmanager
def _disconnected_on_failure(
    context: Any, connection_info: dict[str, Any], encryption: dict[str, Any]
) -> Iterator[None]:
    try:
        yield
    except Exception:
        with excutils.save_and_reraise_exception():
            try:
                disconnect(context, connection_info, encryption)
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


def _encryption(
    context: Any, connection_info: dict[str, Any], known: dict[str, Any] | None
) -> dict[str, Any]:
    if known is not None:
        return known
    found: dict[str, Any] = encryptors.get_encryption_metadata(
        context,
        cinder.API(),
        block_device.get_volume_id(connection_info),
        connection_info,
    )
    return found


def _check_encryption(connection_info: dict[str, Any]) -> None:
    missing = [] if shutil.which("cryptsetup") else ["the program cryptsetup"]
    missing += [] if _MAPPER.exists() else ["the kernel's device mapper"]
    if missing:
        raise exception.VolumeAttachFailed(
            volume_id=block_device.get_volume_id(connection_info),
            reason=f"it is encrypted, and the host lacks {' and '.join(missing)}",
        )


def _encryptor(connection_info: dict[str, Any], encryption: dict[str, Any]) -> Any:
    return encryptors.get_volume_encryptor(
        root_helper=utils.get_root_helper(),
        keymgr=key_manager.API(CONF),
        connection_info=connection_info,
        **encryption,
    )
