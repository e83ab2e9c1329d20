# SPDX-License-Identifier: Apache-2.0
"""Servers in which the host mounts volumes, with docker:volume_mode=filesystem."""

from __future__ import annotations

import pathlib

import pytest

from cloud import images
from cloud.cinder_loop import devices
from tests.cloud import services
from tests.cloud.conftest import eventually

SPECS = {
    "docker:volume_mode": "filesystem",
    "trait:CUSTOM_DOCKER_MOUNT_VOLUMES": "required",
}
MOUNTS = pathlib.Path("/run/nova-docker/filesystems")


@pytest.fixture
def server(flavor, boot):
    return boot(flavor=flavor(SPECS))


def has(server):
    return server.run("grep -c ' /mnt/vdb ' /proc/mounts", check=False) == "1\n"


def test_a_server_has_the_file_system_of_a_volume(demo, flavor, volume, server, boot):
    disk = volume()
    demo.compute.create_volume_attachment(server.id, volume_id=disk.id)
    assert eventually(lambda: has(server))
    # Nova tells Cinder after the server has it.
    disk.until("in-use")
    server.run("echo text > /mnt/vdb/file")
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert server.run("cat /mnt/vdb/file") == "text\n"
    services.kill("nova-compute")
    demo.compute.delete_volume_attachment(server.id, disk.id)
    disk.until("available")
    assert not has(server)
    assert not devices.devices_of(disk.file)
    # Another server has the data, from its first process on.
    image = demo.image.find_image(images.BUSYBOX)
    second = boot(
        flavor=flavor(SPECS),
        block_device_mapping=[
            {
                "boot_index": 0,
                "uuid": image.id,
                "source_type": "image",
                "destination_type": "local",
            },
            {
                "boot_index": -1,
                "uuid": disk.id,
                "source_type": "volume",
                "destination_type": "volume",
            },
        ],
    )
    assert second.run("cat /mnt/vdb/file") == "text\n"
    demo.compute.delete_server(second.id)
    disk.until("available")
    assert not MOUNTS.exists()
