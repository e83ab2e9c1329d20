# SPDX-License-Identifier: Apache-2.0
"""Servers with ephemeral disks, and with swap."""

from __future__ import annotations

import subprocess

import psutil
import pytest

from cloud import images
from cloud.cinder_loop import devices
from cloud.settings import DATA
from tests.cloud import services
from tests.cloud.conftest import eventually

FILES = DATA / "nova" / "docker-ephemeral-disks"
GIB = 1 << 30
FAR = 700  # MiB: far from what mkfs writes


@pytest.fixture(autouse=True)
def no_disk_is_left(nothing_is_left):
    """Fails a test that leaves a file or a loop device behind."""
    before = present()
    yield
    assert eventually(lambda: present() == before, timeout=10), present()


def present():
    return {
        *FILES.glob("*"),
        *(file for _, file in devices.all_devices() if file.is_relative_to(FILES)),
    }


@pytest.fixture
def disk(flavor, boot):
    """A server whose flavor has an ephemeral disk."""
    return boot(flavor=flavor(ephemeral=1))


def write(server, text):
    server.run(f"printf {text} | dd of=/dev/vdb bs=1M seek={FAR} conv=fsync,notrunc")


def read(server):
    command = f"dd if=/dev/vdb bs=1M skip={FAR} count=1"
    return server.run(f"{command} | tr -d '\\0'")


def size(server, device="/dev/vdb"):
    return int(server.run(f"blockdev --getsize64 {device}"))


def probe(server, name="vdb"):
    """Return what is on a disk, as the host's blkid finds it."""
    command = ["blkid", "--probe", "--output=export", FILES / server.id / name]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in lines.splitlines())


def test_a_server_has_the_disk_of_its_flavor(disk, boot):
    assert size(disk) == GIB
    found = probe(disk)
    assert (found["TYPE"], found["LABEL"]) == ("ext4", "ephemeral0")
    # What lsblk would count in a virtual machine
    without = boot()
    assert without.run("test -e /dev/vdb || echo none") == "none\n"


def test_a_user_divides_the_disk_of_the_flavor(demo, boot, flavor):
    blank = {
        "boot_index": -1,
        "source_type": "blank",
        "destination_type": "local",
        "delete_on_termination": True,
        "volume_size": 1,
    }
    server = boot(
        flavor=flavor(ephemeral=2),
        block_device_mapping=[
            {
                "boot_index": 0,
                "uuid": demo.image.find_image(images.BUSYBOX).id,
                "source_type": "image",
                "destination_type": "local",
            },
            blank,
            blank | {"guest_format": "ext2"},
        ],
    )
    assert size(server) == size(server, "/dev/vdc") == GIB
    assert probe(server)["TYPE"] == "ext4"
    assert probe(server, "vdc")["TYPE"] == "ext2"


def test_a_disk_exists_as_long_as_its_server(demo, disk):
    """Over stop and start, both reboots and rescue, but not over a rebuild."""
    write(disk, "kept")
    for action, arguments, until in (
        ("stop_server", (), "SHUTOFF"),
        ("start_server", (), "ACTIVE"),
        ("reboot_server", ("SOFT",), "ACTIVE"),
        ("reboot_server", ("HARD",), "ACTIVE"),
        ("pause_server", (), "PAUSED"),
        ("unpause_server", (), "ACTIVE"),
        ("rescue_server", (), "RESCUE"),
        ("unrescue_server", (), "ACTIVE"),
    ):
        disk.act(action, *arguments, until=until)
        if until in ("ACTIVE", "RESCUE"):
            assert read(disk) == "kept", action
    before = probe(disk)["UUID"]
    image = demo.image.find_image(images.BUSYBOX)
    disk.act("rebuild_server", image.id, until="ACTIVE")
    assert read(disk) == ""
    assert probe(disk)["UUID"] != before


def test_disks_are_there_after_a_power_cut(boot, flavor):
    name = flavor(ephemeral=1)
    servers = [boot(flavor=name), boot(flavor=name)]
    for number, server in enumerate(servers):
        write(server, f"text-{number}")
    services.reboot_host()
    for number, server in enumerate(servers):
        assert eventually(lambda server=server: server.status == "ACTIVE")
        assert eventually(
            lambda server=server: (
                server.run("test -b /dev/vdb && echo yes", check=False) == "yes\n"
            )
        )
        assert read(server) == f"text-{number}"


def test_a_resize_to_another_size_is_refused(demo, disk, flavor):
    write(disk, "kept")
    for number in 0, 2:
        other = demo.compute.find_flavor(flavor(ephemeral=number, ram=128))
        disk.act("resize_server", other.id, until="ACTIVE")
        assert read(disk) == "kept"


def test_a_disk_is_gone_after_nova_compute_was_killed(demo, disk):
    assert (FILES / disk.id).exists()
    services.kill("nova-compute")
    demo.compute.delete_server(disk.id)
    demo.compute.wait_for_delete(disk.show(), interval=0.2)


def test_a_flavor_has_as_much_swap_as_the_host_can_give(boot, flavor, engine):
    host_mb = psutil.swap_memory().total >> 20
    more = boot(flavor=flavor(swap=host_mb + 1), until="ERROR")
    assert f"and the host has {host_mb} MiB" in more.show().fault["message"]
    if host_mb:
        server = boot(flavor=flavor(swap=1))
        limits = engine.inspect_container(f"nova-{server.id}")["HostConfig"]
        assert limits["MemorySwap"] - limits["Memory"] == 1 << 20
