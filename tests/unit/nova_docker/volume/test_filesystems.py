# SPDX-License-Identifier: Apache-2.0
"""Volumes of servers with docker:volume_mode=filesystem, without a kernel."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from nova import exception

from docker_engine.mock.client import MockDockerClient
from nova_docker import conf
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import volume_mode
from nova_docker.privsep import filesystems as privileged
from nova_docker.volume import connections
from nova_docker.volume import ephemerals
from nova_docker.volume import filesystems
from nova_docker.volume import mode
from nova_docker.volume import volumes as module
from nova_docker.volume.disks import Disk
from nova_docker.volume.volumes import Volumes
from tests import archives
from tests import samples
from tests.unit.nova_docker import fake_volumes

CONF = connections.CONF
conf.register_opts(CONF)

NUMBER = fake_volumes.number_of(fake_volumes.DEVICE)
READ_LIMIT = {"quota:disk_read_iops_sec": "7"}


@pytest.fixture(autouse=True)
def mounting():
    CONF.set_override("mount_volumes", True, "docker")
    yield
    CONF.clear_override("mount_volumes", "docker")


@pytest.fixture
def client():
    client = MockDockerClient()
    client.load_image([archives.busybox_archive(tags=["busybox:latest"])])
    return client


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    fake = fake_volumes.Devices()
    for where in module, mode, filesystems, ephemerals:
        monkeypatch.setattr(where, "devices", fake)
    return fake


@pytest.fixture
def mounts(monkeypatch):
    fake = fake_volumes.FileSystems()
    for where in module, filesystems, ephemerals:
        monkeypatch.setattr(where, "filesystems", fake)
    return fake


@pytest.fixture
def obstacles():
    return []


@pytest.fixture
def volumes(client, mounts, obstacles):
    return Volumes(client, None, lambda: obstacles[0] if obstacles else None)


@pytest.fixture
def make_server(client):
    def make(level=isolation.USER, running=True):
        instance = samples.instance()
        name = naming.name_of(instance.uuid)
        labels = {
            **naming.labels(instance),
            isolation.LABEL: level,
            volume_mode.LABEL: volume_mode.FILE_SYSTEM,
        }
        client.create_container(name, {"Image": "busybox:latest", "Labels": labels})
        if running:
            client.start_container(name)
        return instance

    return make


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def stopped(make_server):
    return make_server(running=False)


def volume(name="volume-1", **data):
    return {
        "driver_volume_type": "iscsi",
        "serial": name,
        "data": {"target_iqn": f"iqn.2010-10.org.openstack:{name}", **data},
    }


def mapping(*infos):
    return {
        "block_device_mapping": [
            Mapping(f"/dev/vd{letter}", info)
            for letter, info in zip("bcd", infos, strict=False)
        ]
    }


class Mapping(dict[str, Any]):
    """An item of Nova's block device mapping."""

    def __init__(self, device, info):
        super().__init__(mount_device=device, connection_info=info)

    def save(self):
        pass


def name_of(instance):
    return naming.name_of(instance.uuid)


def test_a_running_server_gets_and_loses_a_volume(
    volumes, server, mounts, devices, connector
):
    info = volume()
    volumes.attach(info, server, "/dev/vdb")
    assert mounts.calls[0] == "make"
    assert mounts.inside == [(name_of(server), "vdb")]
    assert volumes.has_any(server)
    assert not devices.has_any(name_of(server))
    volumes.detach(info, server, "/dev/vdb")
    assert mounts.inside == [] and mounts.mounted() == []
    assert connector.connected == []


def test_a_stopped_server_has_volumes_too(volumes, stopped, mounts):
    volumes.attach(volume(), stopped, "/dev/vdb")
    assert mounts.inside == []
    assert mounts.recorded(name_of(stopped)) == {"vdb": NUMBER}


def test_a_volume_in_use_stays_attached(volumes, server, mounts, connector):
    info = volume()
    volumes.attach(info, server, "/dev/vdb")
    mounts.busy.add("server")
    with pytest.raises(exception.DeviceDetachFailed, match=r"8 \(tail\)"):
        volumes.detach(info, server, "/dev/vdb")
    mounts.busy = {"host"}
    with pytest.raises(exception.DeviceDetachFailed, match="busy"):
        volumes.detach(info, server, "/dev/vdb")
    assert mounts.recorded(name_of(server)) == {"vdb": NUMBER}
    assert connector.connected == [info["data"]]


@pytest.mark.parametrize("step", ["look", "mount", "insert"])
def test_an_attachment_that_fails_leaves_nothing(
    volumes, server, mounts, connector, monkeypatch, step
):
    def fail(*arguments, **more):
        raise OSError(errno.EUCLEAN, "Structure needs cleaning")

    monkeypatch.setattr(mounts, step, fail)
    with pytest.raises(exception.VolumeAttachFailed, match="needs cleaning"):
        volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.mounted() == []
    assert connector.connected == []


def test_what_is_no_file_system_is_neither_mounted_nor_formatted(
    volumes, server, mounts
):
    for kind in "btrfs", None:
        mounts.found |= {"kind": kind, "blank": False, "nothing": kind is None}
        with pytest.raises(exception.VolumeAttachFailed, match="neither mounted nor"):
            volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.calls == [] and mounts.mounted() == []


def test_a_volume_with_data_is_mounted_as_it_is(volumes, server, mounts):
    mounts.found |= {"kind": "xfs", "blank": False, "nothing": False, "size": 0}
    volumes.attach(volume(), server, "/dev/vdb")
    [(_, options)] = mounts.mounts[name_of(server)].values()
    assert options.startswith("xfs ") and "ro" not in options.split(",")
    assert mounts.calls == []


def test_a_read_only_volume_is_mounted_read_only(volumes, server, mounts):
    with pytest.raises(exception.VolumeAttachFailed, match="blank, and read-only"):
        volumes.attach(volume(access_mode="ro"), server, "/dev/vdb")
    mounts.found |= {"kind": "ext4", "blank": False, "nothing": False}
    volumes.attach(volume(access_mode="ro"), server, "/dev/vdb")
    [(_, options)] = mounts.mounts[name_of(server)].values()
    assert {"ro", "noload"} <= set(options.split(","))
    assert mounts.calls == []


UUID = bytes(range(16))


@pytest.mark.parametrize(
    ("found", "formats"),
    [
        ({"blank": True, "nothing": True, "mark": None}, True),
        ({"blank": False, "nothing": True, "mark": UUID}, True),
        ({"blank": False, "nothing": True, "mark": None}, False),
        ({"blank": False, "nothing": False, "mark": UUID}, False),
        ({"blank": False, "nothing": False, "mark": None}, False),
    ],
)
def test_only_what_is_blank_is_formatted(found, formats):
    assert filesystems.is_to_be_formatted(found) == formats


def test_a_mark_is_removed_with_its_own_file_system_only(volumes, server, mounts):
    first = bytes(1024 + 0x68) + UUID + bytes(4096 - 1024 - 0x68 - 16)
    mounts.found |= {"kind": "ext4", "blank": False, "nothing": False, "first": first}
    mounts.found |= {"mark": bytes(16), "size": 0}
    volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.calls == []
    volumes.detach(volume(), server, "/dev/vdb")
    mounts.found["mark"] = UUID
    volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.calls == ["unmark"]


def test_a_file_system_that_is_too_small_grows(volumes, server, mounts, caplog):
    mounts.found |= {"kind": "ext4", "blank": False, "nothing": False}
    volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.calls == ["grow"]
    volumes.detach(volume(), server, "/dev/vdb")

    def fail(*arguments):
        raise OSError(errno.EIO, "resize2fs has failed")

    mounts.grow = fail
    volumes.attach(volume(), server, "/dev/vdb")
    assert "keeps its size" in caplog.text
    with pytest.raises(exception.VolumeExtendFailed, match="resize2fs"):
        volumes.extend(volume(device_path=fake_volumes.DEVICE))


def test_a_volume_of_several_servers_is_refused(volumes, server, devices, connector):
    with pytest.raises(exception.InvalidInput, match="several servers"):
        volumes.attach(volume() | {"multiattach": True}, server, "/dev/vdb")
    assert connector.calls == []
    devices.record("nova-other", "vdb", fake_volumes.DEVICE)
    with pytest.raises(exception.VolumeAttachFailed, match="nova-other has"):
        volumes.attach(volume(), server, "/dev/vdb")


def test_a_host_that_mounts_nothing_refuses(volumes, server, stopped, connector):
    CONF.set_override("mount_volumes", False, "docker")
    with pytest.raises(exception.InvalidInput, match="mount_volumes"):
        volumes.attach(volume(), server, "/dev/vdb")
    with pytest.raises(exception.VolumeAttachFailed, match="mount_volumes"):
        volumes.restore(stopped, mapping(volume()))
    assert connector.connected == []


def test_a_server_in_gvisor_must_be_stopped(volumes, make_server, client, mounts):
    server = make_server(isolation.GVISOR)
    with pytest.raises(
        exception.VolumeAttachFailed, match=r"gVisor.*; stop the server"
    ):
        volumes.attach(volume(), server, "/dev/vdb")
    client.stop_container(name_of(server), 0)
    volumes.attach(volume(), server, "/dev/vdb")
    client.start_container(name_of(server))
    with pytest.raises(
        exception.DeviceDetachFailed, match=r"gVisor.*; stop the server"
    ):
        volumes.detach(volume(), server, "/dev/vdb")
    assert mounts.recorded(name_of(server)) == {"vdb": NUMBER}


def test_only_limits_need_control_groups_that_can_change(
    volumes, server, obstacles, mounts
):
    obstacles.append("the host has cgroup v2")
    volumes.attach(volume(), server, "/dev/vdb")
    volumes.detach(volume(), server, "/dev/vdb")
    server.flavor = samples.flavor(extra_specs=READ_LIMIT)
    with pytest.raises(exception.VolumeAttachFailed, match="limits reads: the host"):
        volumes.attach(volume(), server, "/dev/vdb")
    obstacles.clear()
    volumes.attach(volume(), server, "/dev/vdb")
    assert mounts.limits == {"BlkioDeviceReadIOps": 7}


def test_a_start_mounts_anew_what_nova_says(volumes, stopped, mounts):
    volumes.attach(volume("old"), stopped, "/dev/vdd")
    volumes._changed.clear()
    volumes.restore(stopped, mapping(volume()))
    assert mounts.recorded(name_of(stopped)) == {"vdb": NUMBER}
    # As after a restart of the host
    mounts.mounts.clear()
    volumes.restore(stopped, mapping(volume()))
    assert mounts.recorded(name_of(stopped)) == {"vdb": NUMBER}


def test_a_boot_mounts_volumes_in_the_mode_of_the_server(volumes, mounts, connector):
    instance = samples.instance()
    boot = volumes.connected(instance, mapping(volume()), volume_mode.FILE_SYSTEM)
    with pytest.raises(RuntimeError, match="vdb"), boot:
        raise RuntimeError(mounts.recorded(name_of(instance)))
    assert mounts.mounted() == []
    assert connector.connected == []


def test_a_volume_that_is_in_use_on_the_host_stays_connected(
    volumes, stopped, client, mounts, connector, caplog
):
    info = volume()
    volumes.attach(info, stopped, "/dev/vdb")
    client.remove_container(name_of(stopped))
    mounts.busy.add("host")
    volumes.release(stopped, mapping(info))
    assert "/dev/vdb stays connected" in caplog.text
    assert connector.connected == [info["data"]]


def test_a_swap_is_refused(volumes, server, connector):
    volumes.attach(volume("old"), server, "/dev/vdb")
    with pytest.raises(exception.VolumeRebaseFailed, match="detach it"):
        volumes.swap(volume("old"), volume("new"), server, "/dev/vdb")
    assert connector.calls == ["connect"]


def test_mounts_are_found_without_asking_a_file_system(monkeypatch, tmp_path):
    server = naming.name_of(samples.uuid())
    found = tmp_path / "mountinfo"
    found.write_text(
        "30 1 0:26 / /run rw,nosuid - tmpfs tmpfs rw\n"
        "31 30 0:26 /x /run/nova-docker/filesystems rw shared:1 - tmpfs tmpfs rw\n"
        f"32 31 7:3 / /run/nova-docker/filesystems/{server}/vdb rw,nosuid,nodev "
        "shared:2 - ext4 /dev/loop3 rw\n"
        f"33 31 8:16 / /run/nova-docker/filesystems/{server}/vdc ro,nosuid "
        "shared:2 - xfs /dev/sdb ro\n"
        "34 1 7:3 / /mnt\\040x rw - ext4 /dev/loop3 rw\n"
    )
    monkeypatch.setattr(privileged, "_MOUNTS", found)
    assert privileged.mounted() == [
        privileged.Mounted(server, "vdb", "7:3", "ext4", False),
        privileged.Mounted(server, "vdc", "8:16", "xfs", True),
    ]
    assert privileged.recorded(server) == {"vdb": "7:3", "vdc": "8:16"}
    assert privileged.recorded("nova-other") == {}
    assert privileged.owners("7:3") == [server]


def test_block_devices_refuse_gvisor_only():
    disk = Disk("vdb", volume())
    mode.BlockDevices(lambda: None).refuse(isolation.USER, disk)
    with pytest.raises(exception.InvalidInput, match="volume_mode=filesystem"):
        mode.BlockDevices(lambda: None).refuse(isolation.GVISOR, disk)
