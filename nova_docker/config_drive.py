# SPDX-License-Identifier: Apache-2.0
"""A server's config drive: directories of the host, mounted read-only.

They are mounted where cloud-init's ConfigDrive and NoCloud data sources look by
default. On the host they are below ``state_path``, which hosts do not share, unlike
``instances_path``.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Container as Contains
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from nova import conf as nova_conf
from nova import objects
from nova.api.metadata import base
from nova.virt import configdrive
from oslo_log import log as logging

from nova_docker.storage.mounts import Mount
from nova_docker.storage.mounts import read_only_directory

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_DIRECTORY = "docker-config-drives"

# Where cloud-init looks for them
_TARGETS = {
    "config_drive": "/var/lib/cloud/seed/config_drive",
    "nocloud": "/var/lib/cloud/seed/nocloud",
}

# Only root can read a config drive, as if it were a disk. The owner is nova-compute's
# user, and the image may have another user with the same uid.
_MODE = 0o000


def write(
    instance: objects.Instance,
    injected_files: Sequence[tuple[str, bytes]],
    admin_password: str | None,
    network_info: Any,
) -> list[Mount]:
    """Write a server's config drive, if it needs one.

    :param injected_files: as ComputeDriver.spawn receives them
    :returns: the mounts of its container; none if it needs no config drive
    """
    if not configdrive.required_by(instance):
        return []
    files = _contents(instance, injected_files, admin_password, network_info)
    return write_files(instance, files)


def write_files(instance: objects.Instance, files: Mapping[str, bytes]) -> list[Mount]:
    """Write a server's config drive.

    :param files: content by path, in OpenStack's layout
    :returns: the mounts of its container
    """
    remove(instance.uuid)
    LOG.info("Creating config drive at %s", _path(instance.uuid), instance=instance)
    mounts = []
    for name, content in (("config_drive", files), ("nocloud", nocloud(files))):
        directory = _path(instance.uuid) / name
        _write(directory, content)
        mounts.append(read_only_directory(str(directory), _TARGETS[name]))
    return mounts


def read(uuid: str) -> dict[str, bytes] | None:
    """Return the content of a server's config drive by path, None if it has none."""
    directory = _path(uuid) / "config_drive"
    if not directory.exists():
        return None
    directory.chmod(0o700)
    try:
        return {
            str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
    finally:
        directory.chmod(_MODE)


def remove(uuid: str) -> None:
    """Remove a server's config drive, complete or not, if it exists."""
    with contextlib.suppress(FileNotFoundError):
        for directory in _path(uuid).iterdir():
            directory.chmod(0o700)
        shutil.rmtree(_path(uuid))


def sweep(servers: Contains[str]) -> None:
    """Remove the config drives of servers that do not exist.

    A nova-compute that is killed before it creates the container leaves one behind.

    :param servers: UUIDs of the servers that the engine has
    """
    with contextlib.suppress(FileNotFoundError):
        for found in _path("").iterdir():
            if found.name not in servers:
                LOG.warning("Removing %s, which no server uses", found)
                remove(found.name)


def device_metadata(
    context: Any,
    instance: objects.Instance,
    shares: Iterable[objects.ShareMapping] = (),
) -> objects.InstanceDeviceMetadata | None:
    """Return the tags of a server's NICs, volumes and shares, for its metadata.

    Devices without a tag are left out, as in libvirt's driver. None has a bus.
    """
    vifs = objects.VirtualInterfaceList.get_by_instance_uuid(context, instance.uuid)
    devices: list[Any] = [
        objects.NetworkInterfaceMetadata(mac=vif.address, tags=[vif.tag])
        for vif in vifs
        if vif.tag
    ]
    bdms = objects.BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
    devices += [
        objects.DiskMetadata(tags=[bdm.tag], serial=bdm.volume_id, path=bdm.device_name)
        for bdm in bdms
        if bdm.is_volume and bdm.tag
    ]
    devices += [
        objects.ShareMetadata(share_id=share.share_id, tag=share.tag)
        for share in shares
    ]
    return objects.InstanceDeviceMetadata(devices=devices) if devices else None


def note_devices(context: Any, instance: objects.Instance) -> None:
    """Put the tags of a server's devices and shares into its metadata."""
    shares = objects.ShareMappingList.get_by_instance_uuid(context, instance.uuid)
    instance.device_metadata = device_metadata(context, instance, shares)
    instance.save()


def note_shares(
    context: Any, instance: objects.Instance, shares: Iterable[objects.ShareMapping]
) -> None:
    """Put the tags of a server's shares into its metadata, unless they are there."""
    devices = instance.device_metadata.devices if instance.device_metadata else ()
    noted = {
        (device.share_id, device.tag)
        for device in devices
        if isinstance(device, objects.ShareMetadata)
    }
    if noted != {(share.share_id, share.tag) for share in shares}:
        instance.device_metadata = device_metadata(context, instance, shares)
        instance.save()


def nocloud(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Convert a config drive's files for cloud-init's NoCloud data source.

    :param files: content by path, in OpenStack's layout
    :returns: content by file name
    """
    server = json.loads(files["openstack/latest/meta_data.json"])
    vendor = json.loads(files.get("openstack/latest/vendor_data.json", b"{}"))
    return {
        "meta-data": _json(
            {
                "instance-id": server["uuid"],
                "local-hostname": server["hostname"],
                "public-keys": [
                    key.strip() for key in server.get("public_keys", {}).values()
                ],
            }
        ),
        "user-data": files.get("openstack/latest/user_data", b""),
        "vendor-data": _vendor_data(vendor.get("cloud-init")),
        # The NICs are already configured when the first process starts.
        "network-config": _json({"config": "disabled"}),
    }


def _vendor_data(value: Any) -> bytes:
    """Return vendor data as user data; cloud-init also accepts a list of parts."""
    if isinstance(value, list):
        return b"#cloud-config-archive\n" + _json(value)
    return value.encode() if isinstance(value, str) else b""


def _json(value: Any) -> bytes:
    # cloud-init expects YAML, of which JSON is a subset.
    return json.dumps(value).encode() + b"\n"


def _contents(
    instance: objects.Instance,
    injected_files: Sequence[tuple[str, bytes]],
    admin_password: str | None,
    network_info: Any,
) -> dict[str, bytes]:
    metadata = base.InstanceMetadata(
        instance,
        content=injected_files,
        extra_md={"admin_pass": admin_password} if admin_password else {},
        network_info=network_info,
    )
    return {
        path: content.encode() if isinstance(content, str) else content
        for path, content in metadata.metadata_for_config_drive()
    }


def _write(directory: pathlib.Path, files: Mapping[str, bytes]) -> None:
    _path("").mkdir(mode=0o700, parents=True, exist_ok=True)
    directory.mkdir(mode=0o700, parents=True)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    directory.chmod(_MODE)


def _path(uuid: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _DIRECTORY, uuid)
