# SPDX-License-Identifier: Apache-2.0
"""A server's config drive: directories of the host that it sees read-only.

They are mounted where cloud-init looks without being told to, as ConfigDrive
and as NoCloud. On the host they lie below ``state_path``, which hosts do not
share, unlike ``instances_path``.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import shutil
from collections.abc import Container as Contains
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

# Where cloud-init looks.
_TARGETS = {
    "config_drive": "/var/lib/cloud/seed/config_drive",
    "nocloud": "/var/lib/cloud/seed/nocloud",
}

# Of what a server sees. Only root passes, as if it were a disk: the owner is
# nova-compute's user, and the image may have one of the same number.
_SEALED = 0o000


def write(
    instance: objects.Instance,
    injected_files: Sequence[tuple[str, bytes]],
    admin_password: str | None,
    network_info: Any,
) -> list[Mount]:
    """Write the config drive that a server is to have, if it is to have one.

    :param injected_files: as ComputeDriver.spawn is given them
    :returns: ``HostConfig.Mounts`` of its container; empty without one
    """
    if not configdrive.required_by(instance):
        return []
    files = _contents(instance, injected_files, admin_password, network_info)
    remove(instance.uuid)
    LOG.info("Creating config drive at %s", _path(instance.uuid), instance=instance)
    mounts = []
    for name, content in (("config_drive", files), ("nocloud", nocloud(files))):
        directory = _path(instance.uuid) / name
        _write(directory, content)
        mounts.append(read_only_directory(str(directory), _TARGETS[name]))
    return mounts


def remove(uuid: str) -> None:
    """Remove a server's config drive, or what there is of it."""
    with contextlib.suppress(FileNotFoundError):
        for sealed in _path(uuid).iterdir():
            sealed.chmod(0o700)
        shutil.rmtree(_path(uuid))


def sweep(servers: Contains[str]) -> None:
    """Remove the config drives of servers that are not there.

    A nova-compute killed before it created the container leaves one.

    :param servers: uuids of the servers that the engine has
    """
    with contextlib.suppress(FileNotFoundError):
        for found in _path("").iterdir():
            if found.name not in servers:
                LOG.warning("Removing %s: no server uses it any more", found)
                remove(found.name)


def device_metadata(
    context: Any, instance: objects.Instance
) -> objects.InstanceDeviceMetadata | None:
    """Say which NIC has which tag, for the metadata of a server.

    A veth is on no bus. As in libvirt's driver, NICs without a tag are not named.
    """
    vifs = objects.VirtualInterfaceList.get_by_instance_uuid(context, instance.uuid)
    devices = [
        objects.NetworkInterfaceMetadata(mac=vif.address, tags=[vif.tag])
        for vif in vifs
        if vif.tag
    ]
    return objects.InstanceDeviceMetadata(devices=devices) if devices else None


def nocloud(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What of a config drive's files cloud-init's NoCloud source reads.

    :param files: content by path, as OpenStack has them
    :returns: content by name
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
        # The NICs are configured before the first process runs.
        "network-config": _json({"config": "disabled"}),
    }


def _vendor_data(value: Any) -> bytes:
    """As cloud-init's OpenStack sources take it: a part, or a list of them."""
    if isinstance(value, list):
        return b"#cloud-config-archive\n" + _json(value)
    return value.encode() if isinstance(value, str) else b""


def _json(value: Any) -> bytes:
    # JSON is YAML.
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
    directory.chmod(_SEALED)


def _path(uuid: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _DIRECTORY, uuid)
