# SPDX-License-Identifier: Apache-2.0
"""Attacks by the content of a volume that the host mounts, and by its server."""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess

import pytest
from nova import exception

from nova_docker.container import isolation
from nova_docker.privsep import filesystems
from tests import samples
from tests.attacks import attack
from tests.functional import loops

LEVELS = (isolation.USER, isolation.SHARED)
SUPERBLOCK = 1024


def flavor_of(level):
    specs = {"docker:isolation": level, "docker:volume_mode": "filesystem"}
    return samples.flavor(extra_specs=specs)


@pytest.fixture(params=LEVELS)
def flavor(request):
    return flavor_of(request.param)


@pytest.fixture
def volume():
    with (
        loops.in_memory() as directory,
        loops.made(directory / "volume", mib=64) as volume,
    ):
        yield volume


@pytest.fixture
def boot(volume, boot, configure):
    configure("mount_volumes", True)
    return lambda *words, **values: boot(
        *words, **{"flavor": flavor_of(isolation.USER)} | values
    )


@pytest.fixture(autouse=True)
def nothing_is_mounted(nothing_is_left):
    yield
    assert not filesystems.DIRECTORY.exists()


def attach(driver, server, volume, mountpoint="/dev/vdb"):
    info = volume.connection_info()
    driver.attach_volume(None, info, server.instance, mountpoint)


def detach(driver, server, volume, mountpoint="/dev/vdb"):
    info = volume.connection_info()
    driver.detach_volume(None, info, server.instance, mountpoint)


def mounts(server):
    """Return where a server has something mounted, and with which flags."""
    lines = server.run("cat /proc/mounts").splitlines()
    return sorted(line for line in lines if "/vdb" not in line)


@attack(
    "Directories of the host in place of /mnt/vdb",
    tried="root in a server puts a symbolic link, a file or a named pipe where its "
    "volume will be mounted, or in place of /mnt",
    held_by="no symbolic link is followed, and the volume is refused",
)
@pytest.mark.parametrize(
    "obstacle",
    [
        "rm -rf /mnt; ln -s /proc/1/root/etc /mnt",
        "rm -rf /mnt; ln -s ../../../../etc /mnt",
        "rm -rf /mnt; busybox mkfifo /mnt",
        "mkdir -p /mnt; ln -s / /mnt/vdb",
        "mkdir -p /mnt; ln -s /proc/self/fd /mnt/vdb",
        "mkdir -p /mnt; echo > /mnt/vdb",
    ],
)
def test_what_is_in_the_way_is_not_followed(driver, boot, flavor, volume, obstacle):
    server = boot(flavor=flavor)
    server.run(obstacle)
    before = mounts(server)
    with pytest.raises(exception.VolumeAttachFailed, match="symbolic link"):
        attach(driver, server, volume)
    assert mounts(server) == before
    assert volume.is_free()
    # runc follows links at a start, in the server.
    bdi = loops.info(volume.mapping("/dev/vdb"))
    with contextlib.suppress(exception.NovaException):
        driver.reboot(None, server.instance, server.network_info, "HARD", bdi)
    driver.power_off(server.instance, 0)
    detach(driver, server, volume)
    assert volume.is_free()


@attack(
    "A mounted volume that cannot be detached",
    tried="root in a server moves the directory in which its volume is mounted, and "
    "puts a symbolic link in its place",
    held_by="the kernel's list of mounts says where the volume is, and lets nobody "
    "rename the mount itself",
)
def test_a_volume_is_found_where_the_server_has_moved_it(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    for command in "mv /mnt/vdb /mnt/vdc", "rmdir /mnt/vdb", "busybox umount /mnt/vdb":
        with pytest.raises(subprocess.CalledProcessError):
            server.run(command)
    before = mounts(server)
    server.run("mkdir -p '/a b/c' && mv /mnt '/a b/c/mnt' && ln -s /proc /mnt")
    detach(driver, server, volume)
    assert mounts(server) == before
    assert "/vdb" not in server.run("cat /proc/mounts")
    assert volume.is_free()


@attack(
    "Other mounts of the server, such as those that protect /proc",
    tried="root in a server moves directories to and fro while its volume is attached "
    "and detached, to have another mount removed in its place",
    held_by="a mount is removed by its name in an open directory, after the kernel has "
    "said that it is the volume",
)
def test_a_race_of_names_removes_nothing_else(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    server.run("mkdir -p /mnt")
    before = mounts(server)
    server.run(
        "echo 'while :; do mv /mnt /old; ln -s /proc /mnt; rm /mnt; mv /old /mnt; done'"
        " > /race; sh /race >/dev/null 2>&1 & echo $! > /racer"
    )
    done = 0
    for _ in range(20):
        with contextlib.suppress(exception.VolumeAttachFailed):
            attach(driver, server, volume)
        with contextlib.suppress(exception.DeviceDetachFailed):
            detach(driver, server, volume)
            done += 1
    server.run("kill -9 $(cat /racer); test -L /mnt && rm /mnt || :")
    detach(driver, server, volume)
    assert mounts(server) == before
    assert volume.is_free()
    assert done


@attack(
    "Root of the host by a set-user-id program or a device node on a volume",
    tried="a tenant writes a file system with such files on a volume, and has it "
    "mounted in a server",
    held_by="every mount of a volume has nosuid and nodev, and the server's root "
    "cannot change it",
)
def test_programs_and_nodes_of_a_volume_have_no_power(
    driver, boot, flavor, volume, tmp_path
):
    volume.make_file_system()
    point = tmp_path / "point"
    point.mkdir()
    subprocess.run(["mount", "-t", "ext4", volume.path, point], check=True)
    os.mknod(point / "node", 0o600 | 0o060000, os.stat(volume.path).st_rdev)
    (point / "id").write_bytes(b"#!/bin/sh\n")
    (point / "id").chmod(0o6755)
    subprocess.run(["umount", point], check=True)
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    for restart in False, True:
        if restart:
            bdi = loops.info(volume.mapping("/dev/vdb"))
            driver.reboot(None, server.instance, server.network_info, "HARD", bdi)
        flags = server.run("grep /mnt/vdb /proc/mounts").split()[3].split(",")
        assert {"nosuid", "nodev"} <= set(flags)
        for command in (
            "dd if=/mnt/vdb/node bs=1 count=1",
            "busybox mount -o remount,suid,dev /mnt/vdb",
            "busybox mount -o remount,bind,suid,dev /mnt/vdb",
        ):
            with pytest.raises(subprocess.CalledProcessError):
                server.run(command)


def _damage(volume):
    """Write nonsense over the descriptors of the groups, and keep the superblock."""
    volume.write(4096, b"\xff" * 65536)


def _name_a_journal(volume):
    volume.write(SUPERBLOCK + 0xE4, struct.pack("<I", 0x0100))


def _ask_for_options(volume):
    volume.write(SUPERBLOCK + 0x200, b"errors=panic".ljust(64, b"\0"))


def _claim_a_size(volume):
    volume.write(SUPERBLOCK + 0x4, struct.pack("<I", 0xFFFFFFFF))


def _fill_the_superblock(volume):
    volume.write(SUPERBLOCK, b"\xff" * 0x38)
    volume.write(SUPERBLOCK + 0x3A, b"\xff" * (1024 - 0x3A))


@attack(
    "The host's parser of file systems",
    tried="a tenant damages the file system of a volume, or has its superblock name "
    "another device as its journal, or options for its mount",
    held_by="the operator must allow mounts at all; the driver looks at the superblock "
    "first. Then the kernel's own checks: a vulnerability in them is one of the host",
)
@pytest.mark.parametrize(
    "hostile",
    [
        _damage,
        _name_a_journal,
        _ask_for_options,
        _claim_a_size,
        _fill_the_superblock,
    ],
)
def test_a_hostile_file_system_concerns_its_own_server_only(
    driver, make_driver, boot, volume, hostile
):
    neighbour = boot()
    # As metadata_csum would find some of it, whose checksums a tenant can compute
    volume.make_file_system("ext4", "-b", "4096", "-O", "^metadata_csum,^64bit")
    server = boot(block_device_info=loops.info(volume.mapping("/dev/vdb")))
    driver.power_off(server.instance, 0)
    detach(driver, server, volume)
    hostile(volume)
    before = volume.file.read_bytes()
    with pytest.raises(exception.VolumeAttachFailed):
        attach(driver, server, volume)
    # nova-compute starts, and does not know any more that the volume was detached.
    driver = make_driver()
    bdi = loops.info(volume.mapping("/dev/vdb"))
    with pytest.raises(exception.VolumeAttachFailed):
        driver.resume_state_on_host_boot(
            None, server.instance, server.network_info, None, bdi
        )
    with pytest.raises(exception.VolumeAttachFailed):
        boot(block_device_info=bdi)
    assert volume.is_free()
    assert volume.file.read_bytes() == before
    # Nova starts the other servers.
    driver.reboot(None, neighbour.instance, neighbour.network_info, "HARD")
    assert neighbour.run("echo runs") == "runs\n"
    # So does this one, without the volume.
    driver.power_on(None, server.instance, server.network_info, loops.info())
    assert server.run("echo runs") == "runs\n"


@attack(
    "A panic of the host",
    tried="a file system that asks the kernel for a panic at the first error, with a "
    "directory that is an error",
    held_by="the option errors=remount-ro, which prevails",
)
def test_an_error_makes_a_file_system_read_only(driver, boot, flavor, volume):
    volume.make_file_system("ext4", "-O", "^metadata_csum", "-e", "panic", "-b", "4096")
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    server.run("mkdir /mnt/vdb/d; echo x > /mnt/vdb/d/f")
    detach(driver, server, volume)
    stat = subprocess.run(
        ["debugfs", "-R", "blocks /d", volume.path],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    volume.write(int(stat.split()[0]) * 4096, b"\xff" * 4096)
    attach(driver, server, volume)
    assert "errors=remount-ro" in server.run("grep /mnt/vdb /proc/mounts")
    server.run("ls /mnt/vdb/d || :")
    with pytest.raises(subprocess.CalledProcessError):
        server.run("echo x > /mnt/vdb/d/g")
    detach(driver, server, volume)
    assert volume.is_free()


def _swap(volume):
    subprocess.run(["mkswap", volume.path], check=True, capture_output=True)


def _luks(volume):
    volume.write(0, b"LUKS\xba\xbe\0\1".ljust(512, b"\0"))


def _partitions(volume):
    entry = struct.pack("<8BII", 0, 0, 2, 0, 0x83, 0, 0, 0, 2048, 4096)
    volume.write(446, entry)
    volume.write(510, b"\x55\xaa")


def _data_at_the_beginning(volume):
    volume.write(512 << 10, b"data")


def _data_at_the_end(volume):
    volume.write((64 << 20) - 4, b"data")


def _broken_ext4(volume):
    volume.make_file_system()
    volume.write(SUPERBLOCK + 0x38, b"\0\0")


def _another_mark(volume):
    """A mark of formatting, and a file system that somebody else has made then."""
    volume.make_file_system("ext2")
    tail = filesystems._tail(64 << 20)
    volume.write(tail, filesystems._MARK + bytes(range(16)))
    volume.write(SUPERBLOCK + 0x200, b"errors=panic".ljust(64, b"\0"))


@attack(
    "Somebody's data, by a format",
    tried="volumes with a signature that is no file system, with a broken one, or with "
    "data at the beginning or the end only are attached",
    held_by="a volume is formatted only if blkid finds nothing, twice, and both of its "
    "ends are zero",
)
@pytest.mark.parametrize(
    "content",
    [
        _swap,
        _luks,
        _partitions,
        _data_at_the_beginning,
        _data_at_the_end,
        _broken_ext4,
        _another_mark,
    ],
)
def test_what_is_not_blank_is_never_formatted(driver, boot, volume, content):
    server = boot()
    content(volume)
    before = volume.file.read_bytes()
    with pytest.raises(exception.VolumeAttachFailed):
        attach(driver, server, volume)
    assert volume.file.read_bytes() == before
    assert volume.is_free()
