# SPDX-License-Identifier: Apache-2.0
"""Which disk a directory is on."""

from __future__ import annotations

import os
import stat
from types import SimpleNamespace

import pytest

from nova_docker.host import disk

VDA, VDA1, DM = os.makedev(253, 0), os.makedev(253, 1), os.makedev(252, 7)


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host with a disk, its partition and a device of LVM; and a directory."""
    devices = tmp_path / "devices"
    (devices / "vda/vda1").mkdir(parents=True)
    (devices / "vda/vda1/partition").write_text("1")
    (devices / "dm-7").mkdir()
    block = tmp_path / "block"
    block.mkdir()
    for number, path in ((VDA, "vda"), (VDA1, "vda/vda1"), (DM, "dm-7")):
        name = f"{os.major(number)}:{os.minor(number)}"
        (block / name).symlink_to(devices / path)
    monkeypatch.setattr(disk, "_BLOCK", block)
    found = {"/data": SimpleNamespace(st_dev=0), "/dev/mapper/data": None}
    mounts = [
        SimpleNamespace(mountpoint="/", device="/dev/vda1"),
        SimpleNamespace(mountpoint="/data", device="/dev/mapper/data"),
    ]
    monkeypatch.setattr(disk.psutil, "disk_partitions", lambda all: mounts)

    def status(path, **more):
        return found[path] if path in found else real(path, **more)

    real = os.stat
    monkeypatch.setattr(disk.os, "stat", status)
    return found


@pytest.mark.parametrize(
    ("number", "device"), [(VDA, "/dev/vda"), (VDA1, "/dev/vda"), (DM, "/dev/dm-7")]
)
def test_a_whole_disk_is_limited(host, number, device):
    host["/data"].st_dev = number
    assert disk.device_of("/data") == device


def test_a_file_system_with_numbers_of_its_own_is_on_what_is_mounted(host):
    host["/data"].st_dev = os.makedev(0, 40)
    host["/dev/mapper/data"] = SimpleNamespace(st_mode=stat.S_IFBLK, st_rdev=DM)
    assert disk.device_of("/data") == "/dev/dm-7"


def test_a_file_system_without_a_disk_has_none(host):
    host["/data"].st_dev = os.makedev(0, 40)
    host["/dev/mapper/data"] = SimpleNamespace(st_mode=stat.S_IFREG, st_rdev=0)
    assert disk.device_of("/data") is None


def test_the_mount_of_a_directory_is_the_innermost(host):
    assert disk.mount_of("/data/docker").mountpoint == "/data"
    assert disk.mount_of("/database").mountpoint == "/"
