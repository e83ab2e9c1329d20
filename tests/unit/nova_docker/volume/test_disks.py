# SPDX-License-Identifier: Apache-2.0
"""What servers ask for in terms of disks."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import isolation
from nova_docker.volume import disks

VOLUME = {
    "mount_device": "/dev/vdb",
    "boot_index": None,
    "connection_info": {
        "serial": "volume-1",
        "data": {"access_mode": "ro"},
    },
}

DISK = {"device_name": "/dev/vdb", "size": 2, "guest_format": None}


@pytest.mark.parametrize(
    ("mountpoint", "device"),
    [
        ("/dev/vdb", "vdb"),
        ("/dev/sdz", "sdz"),
        ("/dev/xvdc", "xvdc"),
        ("/dev/vdaa", "vdaa"),
    ],
)
def test_a_volume_has_the_name_that_nova_gives_it(mountpoint, device):
    assert disks.device_of(mountpoint) == device


@pytest.mark.parametrize(
    "mountpoint",
    [
        "vdb",
        "/dev/null",
        "/dev/vdnull",
        "/dev/../vdb",
        "/dev/vdb/x",
        "/dev/vdb\n",
        "/dev/vdb1",
        "",
    ],
)
def test_no_volume_takes_the_place_of_another_file(mountpoint):
    with pytest.raises(exception.InvalidDevicePath):
        disks.device_of(mountpoint)


def test_volumes_are_those_of_the_mapping():
    [disk] = disks.of({"block_device_mapping": [VOLUME]})
    assert disk.device == "vdb"
    assert disk.volume_id == "volume-1"
    assert disk.read_only


@pytest.mark.parametrize("info", [None, {}, {"block_device_mapping": None}])
def test_a_server_may_have_no_volumes(info):
    assert disks.of(info) == []
    disks.refuse(info, isolation.GVISOR)


@pytest.mark.parametrize(
    ("info", "level", "reason"),
    [
        (
            {"block_device_mapping": [VOLUME | {"boot_index": 0}]},
            isolation.USER,
            "cannot boot from a volume: its root disk consists of the layers",
        ),
        ({"ephemerals": [DISK]}, isolation.GVISOR, "no block devices"),
        ({"ephemerals": [DISK | {"size": 0}]}, isolation.USER, "needs a size"),
        (
            {"ephemerals": [DISK | {"guest_format": "../sh"}]},
            isolation.USER,
            r"format '\.\./sh'; use one of ext2, ext3, ext4, ",
        ),
        ({"block_device_mapping": [VOLUME]}, isolation.GVISOR, "no block devices"),
    ],
)
def test_what_a_container_cannot_have_is_refused_by_name(info, level, reason):
    with pytest.raises(exception.InvalidInput, match=reason):
        disks.refuse(info, level)


@pytest.mark.parametrize("level", [isolation.USER, isolation.SHARED])
def test_others_are_accepted(level):
    info = {"block_device_mapping": [VOLUME], "ephemerals": [DISK], "swap": None}
    disks.refuse(info, level)


def test_ephemeral_disks_are_formatted_as_requested_or_configured():
    info = {"ephemerals": [DISK, DISK | {"guest_format": "xfs"}]}
    one, two = disks.ephemerals(info, None)
    assert one == ("vdb", 2 << 30, "ext4", "ephemeral0")
    assert two[2:] == ("xfs", "ephemeral1")
    assert [disk.file_system for disk in disks.ephemerals(info, "vfat")] == [
        "vfat",
        "xfs",
    ]
    assert disks.ephemeral_gb(info) == 4


@pytest.mark.parametrize("info", [None, {}, {"ephemerals": None}])
def test_a_server_may_have_no_ephemeral_disks(info):
    assert disks.ephemerals(info, None) == []
    assert disks.ephemeral_gb(info) == 0
