# SPDX-License-Identifier: Apache-2.0
"""Servers with volumes."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from openstack import exceptions

from cloud import images
from cloud import settings
from cloud.cinder_loop import devices
from tests.cloud import services
from tests.cloud.conftest import eventually

GIB = 1 << 30


def openstack(*words, user="demo"):
    """Run a command of openstackclient."""
    environment = {
        "PATH": settings.PATH,
        "OS_CLIENT_CONFIG_FILE": str(settings.CLOUDS_YAML),
        "OS_CLOUD": user,
    }
    subprocess.run(
        [settings.BIN / "openstack", *words],
        env=environment,
        check=True,
        capture_output=True,
    )


def attach(server, volume, device="/dev/vdb"):
    server.user.compute.create_volume_attachment(
        server.id, volume_id=volume.id, device=device
    )
    volume.until("in-use")
    assert eventually(lambda: has(server, device))


def detach(server, volume):
    server.user.compute.delete_volume_attachment(server.id, volume.id)
    volume.until("available")


def has(server, device="/dev/vdb"):
    return server.run(f"test -b {device} && echo yes", check=False) == "yes\n"


def write(server, text, device="/dev/vdb"):
    server.run(f"printf %-512s {text} | dd of={device} bs=512 conv=fsync")


def read(server, device="/dev/vdb"):
    return server.run(f"dd if={device} bs=512 count=1").strip()


def size(server, device="/dev/vdb"):
    return int(server.run(f"blockdev --getsize64 {device}"))


def test_the_client_gives_a_running_server_a_volume_and_takes_it_back(volume, boot):
    disk, server = volume(), boot()
    process = server.run("cat /proc/1/stat").split()[21]
    openstack("server", "add", "volume", server.id, disk.id)
    assert eventually(lambda: has(server))
    # Nova tells Cinder after the server has it.
    disk.until("in-use")
    assert size(server) == GIB
    write(server, "text")
    with disk.file.open("rb") as file:
        assert file.read(4) == b"text"
    openstack("server", "remove", "volume", server.id, disk.id)
    disk.until("available")
    assert not has(server)
    assert not devices.devices_of(disk.file)
    # It has not been restarted.
    assert server.run("cat /proc/1/stat").split()[21] == process


def test_data_survives_its_server(demo, volume, boot):
    disk = volume()
    first = boot()
    attach(first, disk)
    write(first, "kept")
    demo.compute.delete_server(first.id)
    demo.compute.wait_for_delete(first.show(), interval=0.2)
    disk.until("available")
    second = boot()
    attach(second, disk)
    assert read(second) == "kept"


def test_a_server_keeps_its_volumes(demo, volume, boot):
    """Over stop and start, both reboots, rebuild, resize and a frozen time."""
    disk, server = volume(), boot()
    attach(server, disk)
    write(server, "kept")
    image = demo.image.find_image(images.BUSYBOX)
    for action, arguments, until in (
        ("stop_server", (), "SHUTOFF"),
        ("start_server", (), "ACTIVE"),
        ("reboot_server", ("SOFT",), "ACTIVE"),
        ("reboot_server", ("HARD",), "ACTIVE"),
        ("pause_server", (), "PAUSED"),
        ("unpause_server", (), "ACTIVE"),
        ("rebuild_server", (image.id,), "ACTIVE"),
    ):
        server.act(action, *arguments, until=until)
        if until == "ACTIVE":
            assert read(server) == "kept", action


def test_a_volume_of_a_stopped_server_is_there_when_it_starts(volume, boot):
    disk, server = volume(), boot()
    server.act("stop_server", until="SHUTOFF")
    server.user.compute.create_volume_attachment(server.id, volume_id=disk.id)
    disk.until("in-use")
    server.act("start_server", until="ACTIVE")
    assert size(server) == GIB


def test_volumes_return_to_their_servers_after_a_power_cut(volume, boot):
    disks, servers = [volume(), volume()], [boot(), boot()]
    for number, (server, disk) in enumerate(zip(servers, disks, strict=True)):
        attach(server, disk)
        write(server, f"text-{number}")
    services.reboot_host()
    for number, server in enumerate(servers):
        assert eventually(lambda server=server: server.status == "ACTIVE")
        assert eventually(lambda server=server: has(server))
        assert read(server) == f"text-{number}"


def test_a_server_sees_that_its_volume_has_grown(demo, volume, boot):
    disk, server = volume(), boot()
    attach(server, disk)
    demo.block_storage.extend_volume(disk.id, 2)
    disk.until("in-use")
    assert eventually(lambda: size(server) == 2 * GIB)


def test_two_servers_share_a_volume(volume, boot):
    disk = volume(volume_type="loop-multiattach")
    first, second = boot(), boot()
    for server in first, second:
        attach(server, disk)
    write(first, "shared")
    assert read(second) == "shared"
    first.user.compute.delete_volume_attachment(first.id, disk.id)
    assert eventually(lambda: not has(first))
    assert read(second) == "shared"


@pytest.fixture
def boot_with(demo, boot):
    """Boots a server from an image, with these block devices besides."""

    def create(*mappings, **values):
        image = demo.image.find_image(images.BUSYBOX)
        root = {
            "boot_index": 0,
            "uuid": image.id,
            "source_type": "image",
            "destination_type": "local",
        }
        return boot(block_device_mapping=[root, *mappings], **values)

    return create


def test_a_server_boots_with_a_volume(volume, boot_with):
    disk = volume()
    server = boot_with(
        {
            "boot_index": -1,
            "uuid": disk.id,
            "source_type": "volume",
            "destination_type": "volume",
        }
    )
    assert size(server) == GIB
    assert disk.status == "in-use"


def test_a_volume_is_deleted_with_its_server_if_that_was_requested(demo, boot_with):
    server = boot_with(
        {
            "boot_index": -1,
            "source_type": "blank",
            "destination_type": "volume",
            "volume_size": 1,
            "delete_on_termination": True,
        }
    )
    [attached] = demo.compute.volume_attachments(server.id)
    assert size(server) == GIB
    demo.compute.delete_server(server.id)
    demo.compute.wait_for_delete(server.show(), interval=0.2)

    def gone():
        with contextlib.suppress(exceptions.NotFoundException):
            demo.block_storage.get_volume(attached.volume_id)
            return False
        return True

    assert eventually(gone)


def test_a_server_cannot_boot_from_a_volume(volume, boot, demo):
    disk = volume()
    demo.block_storage.set_volume_bootable_status(disk.id, True)
    server = boot(
        until="ERROR",
        image="",
        block_device_mapping=[
            {
                "boot_index": 0,
                "uuid": disk.id,
                "source_type": "volume",
                "destination_type": "volume",
            }
        ],
    )
    assert "cannot boot from a volume" in server.show().fault["message"]


def test_a_volume_is_free_after_nova_compute_was_killed(demo, volume, boot):
    """However far it got: Nova knows, and the deletion of the server ends it."""
    disk, server = volume(), boot()
    demo.compute.create_volume_attachment(server.id, volume_id=disk.id)
    services.kill("nova-compute")
    demo.compute.delete_server(server.id)
    demo.compute.wait_for_delete(server.show(), interval=0.2)
    disk.until("available")
    assert not devices.devices_of(disk.file)
    second = boot()
    attach(second, disk)
    assert has(second)


def test_a_volume_that_migrates_takes_its_server_along(admin, volume, boot):
    disk, server = volume(), boot()
    attach(server, disk)
    write(server, "kept")
    before = admin.block_storage.get_volume(disk.id).host
    pool = {"first": "second", "second": "first"}[before.partition("#")[2]]
    admin.block_storage.migrate_volume(disk.id, f"{before.partition('#')[0]}#{pool}")
    assert eventually(
        lambda: admin.block_storage.get_volume(disk.id).host.endswith(f"#{pool}")
    )
    disk.until("in-use")
    assert eventually(lambda: has(server))
    assert read(server) == "kept"
