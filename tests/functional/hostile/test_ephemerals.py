# SPDX-License-Identifier: Apache-2.0
"""Attacks by root of a server that has an ephemeral disk."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest

from nova_docker.container import isolation
from nova_docker.driver import CONF
from tests import samples
from tests.attacks import attack
from tests.functional import loops

INFO = loops.info(ephemerals=[loops.ephemeral()])
LEVELS = (isolation.USER, isolation.SHARED)
GIB = 1 << 30
# Where mkfs has written nothing, in MiB
PLACES = (100, 500, 1000)


@pytest.fixture(params=LEVELS)
def boot_with_disk(request, boot):
    extra_specs = {"docker:isolation": request.param}
    flavor = samples.flavor(ephemeral_gb=1, extra_specs=extra_specs)
    return lambda: boot(flavor=flavor, block_device_info=INFO)


def file_of(server):
    return pathlib.Path(
        CONF.state_path, "docker-ephemeral-disks", server.instance.uuid, "vdb"
    )


def device_of(server):
    listed = loops.losetup("--noheadings", "--output=NAME", "-j", str(file_of(server)))
    [device] = listed.split()
    return device


@attack(
    "What a deleted server has written",
    tried="a server fills its ephemeral disk and is deleted; the next server looks for "
    "it on a disk that usually has the same device",
    held_by="each disk is a new file, in which the host's file system shows zeros",
)
def test_the_next_server_finds_nothing(driver, boot_with_disk):
    first = boot_with_disk()
    for place in PLACES:
        first.run(
            f"printf secret | dd of=/dev/vdb bs=1M seek={place} conv=notrunc,fsync"
        )
    driver.destroy(None, first.instance, first.network_info, INFO)
    second = boot_with_disk()
    with pytest.raises(subprocess.CalledProcessError):
        second.run("grep -q secret /dev/vdb")
    for place in PLACES:
        written = second.run(
            f"dd if=/dev/vdb bs=1M skip={place} count=1 | tr -d '\\0' | wc -c"
        )
        assert written.strip() == "0"


@attack(
    "More of the host's disk than the flavor has",
    tried="a server writes to its ephemeral disk until that fails",
    held_by="the size of the loop device, which is that of its file",
)
def test_a_disk_does_not_grow(boot_with_disk):
    server = boot_with_disk()
    for command in (
        "printf x | dd of=/dev/vdb bs=1 seek=1073741824 conv=notrunc,fsync",
        "dd if=/dev/zero of=/dev/vdb bs=1M seek=1020 conv=notrunc,fsync",
    ):
        with pytest.raises(subprocess.CalledProcessError):
            server.run(command)
    assert file_of(server).stat().st_size == GIB
    assert server.run("busybox blockdev --getsize64 /dev/vdb").strip() == str(GIB)


@attack(
    "The disk of the next server",
    tried="a server detaches its ephemeral disk from its file, so that another server "
    "gets the same device",
    held_by="the seccomp filter refuses the ioctls of loop devices",
)
def test_a_server_does_not_detach_its_disk(boot_with_disk):
    server, neighbour = boot_with_disk(), boot_with_disk()
    for command in (
        "busybox losetup -d /dev/vdb",
        "busybox losetup /dev/vdb",
        "busybox losetup -P /dev/vdb /etc/passwd",
    ):
        with pytest.raises(subprocess.CalledProcessError):
            server.run(command)
    assert device_of(server) != device_of(neighbour)
    server.run("printf x | dd of=/dev/vdb bs=1M seek=100 conv=notrunc,fsync")


@attack(
    "The disk of a neighbour",
    tried="a server makes a device node with the number of its neighbour's disk",
    held_by="no CAP_MKNOD, and the device cgroup has no other device",
)
def test_a_server_reaches_only_its_own_disk(boot_with_disk):
    server, neighbour = boot_with_disk(), boot_with_disk()
    number = os.stat(device_of(neighbour)).st_rdev
    for path in "/tmp/x", "/dev/x":
        with pytest.raises(subprocess.CalledProcessError):
            server.run(
                f"busybox mknod {path} b {os.major(number)} {os.minor(number)} && "
                f"dd if={path} count=1"
            )
    listed = server.run("find / -xdev -name docker-ephemeral-disks")
    assert listed == ""


@attack(
    "The host's parsers of partitions and file systems",
    tried="a server writes a partition table and garbage to its ephemeral disk, and is "
    "stopped and started",
    held_by="the driver formats new disks only, and the kernel scans no loop device",
)
def test_what_a_server_writes_is_not_interpreted(driver, boot_with_disk):
    server = boot_with_disk()
    # One partition of a PC, from sector 1
    entry = r"\0\0\0\0\203\0\0\0\1\0\0\0\0\1\0\0"
    server.run(f"printf '{entry}' | dd of=/dev/vdb bs=1 seek=446 conv=notrunc")
    server.run(r"printf '\125\252' | dd of=/dev/vdb bs=1 seek=510 conv=notrunc,fsync")
    before = server.run("dd if=/dev/vdb bs=1k count=4 | md5sum")
    driver.power_off(server.instance, 0)
    driver.power_on(None, server.instance, server.network_info, INFO)
    assert server.run("dd if=/dev/vdb bs=1k count=4 | md5sum") == before
    name = pathlib.Path(device_of(server)).name
    assert list(pathlib.Path("/sys/block", name).glob(f"{name}p*")) == []
    assert f"/dev/{name} " not in pathlib.Path("/proc/self/mounts").read_text()
