# SPDX-License-Identifier: Apache-2.0
"""Volumes of Cinder, on the quickstart's back end."""

from __future__ import annotations

import contextlib
import os

import pytest
from openstack import exceptions
from oslo_utils import uuidutils

from cloud import commands
from cloud import settings
from cloud import volumes
from cloud.cinder_loop import devices
from cloud.settings import VOLUMES
from tests.cloud import services
from tests.cloud.conftest import eventually

FILES = VOLUMES / "files"
GIB = 1 << 30


@pytest.fixture
def attach(admin, volume):
    """Attaches a volume as Nova does, without a server; returns the attachment."""
    api = admin.block_storage
    made = []

    def create(attached):
        found = api.create_attachment(
            attached.id,
            instance=uuidutils.generate_uuid(),
            connector={"host": "docker-host", "ip": "127.0.0.1"},
        )
        made.append(found)
        api.complete_attachment(found.id)
        return found

    yield create
    for each in made:
        with contextlib.suppress(exceptions.NotFoundException):
            api.delete_attachment(each.id, ignore_missing=False)


def read(volume, size):
    with volume.file.open("rb") as file:
        return file.read(size)


def device_of(attachment):
    return os.path.realpath(attachment.connection_info["device_path"])


def test_a_volume_takes_only_the_space_that_is_written(volume):
    created = volume(size=100)
    state = created.file.stat()
    assert state.st_size == 100 * GIB
    assert state.st_blocks == 0
    assert state.st_mode & 0o777 == 0o600


def test_an_image_becomes_a_volume_and_its_copies_keep_the_data(
    demo, volume, upload, admin
):
    content = os.urandom(3 << 20)
    api = demo.block_storage
    image = demo.image.find_image(upload(content, container_format="bare"))
    first = volume(image_id=image.id)
    snapshot = api.create_snapshot(volume_id=first.id)
    api.wait_for_status(snapshot, "available", interval=0.2)
    second = volume(size=2, snapshot_id=snapshot.id)
    third = volume(size=3, source_volume_id=second.id)
    for number, each in enumerate((first, second, third), start=1):
        assert read(each, len(content)) == content
        assert each.file.stat().st_size == number * GIB
        # The rest are holes.
        assert each.file.stat().st_blocks * 512 < 2 * len(content)


def test_a_volume_becomes_an_image(demo, volume, upload):
    content = os.urandom(1 << 20)
    source = demo.image.find_image(upload(content, container_format="bare"))
    created = volume(image_id=source.id)
    demo.block_storage.upload_volume_to_image(
        created.id, "test", disk_format="raw", container_format="bare"
    )
    created.until("available")
    [image] = demo.image.images(name="test")
    try:
        eventually(lambda: demo.image.get_image(image).status == "active")
        assert demo.image.get_image(image).size == GIB
        with demo.image.get(f"/images/{image.id}/file", stream=True) as data:
            assert next(data.iter_content(len(content))) == content
    finally:
        demo.image.delete_image(image)


def test_a_volume_is_reverted_to_its_snapshot(demo, volume):
    created = volume()
    created.file.write_bytes(b"before")
    os.truncate(created.file, GIB)
    snapshot = demo.block_storage.create_snapshot(volume_id=created.id)
    demo.block_storage.wait_for_status(snapshot, "available", interval=0.2)
    created.file.write_bytes(b"after!")
    demo.block_storage.revert_volume_to_snapshot(created.id, snapshot.id)
    created.until("available")
    assert read(created, 6) == b"before"
    assert created.file.stat().st_size == GIB


def test_a_volume_has_a_device_as_long_as_it_is_attached(admin, volume, attach):
    created = volume()
    assert not devices.devices_of(created.file)
    attachment = attach(created)
    assert attachment.connection_info["driver_volume_type"] == "local"
    assert [device_of(attachment)] == devices.devices_of(created.file)
    admin.block_storage.delete_attachment(attachment.id)
    assert not devices.devices_of(created.file)
    assert not created.link.is_symlink()


def test_a_volume_of_two_servers_has_its_device_until_both_are_gone(
    admin, volume, attach
):
    created = volume(volume_type="loop-multiattach")
    first, second = attach(created), attach(created)
    assert device_of(first) == device_of(second)
    admin.block_storage.delete_attachment(first.id)
    assert devices.devices_of(created.file) == [device_of(second)]
    admin.block_storage.delete_attachment(second.id)
    assert not devices.devices_of(created.file)


@pytest.fixture
def other_device(tmp_path):
    """Attaches another file to a loop device, until the test ends."""
    with contextlib.ExitStack() as stack:

        def attach():
            file = tmp_path / "other"
            file.write_bytes(bytes(4096))
            found = commands.output("losetup", "--find", "--show", str(file)).strip()
            stack.callback(commands.output, "losetup", "--detach", found)
            return found

        yield attach


def test_an_attached_volume_keeps_its_path_when_the_host_restarts(
    volume, attach, other_device
):
    created = volume()
    attachment = attach(created)
    device = device_of(attachment)
    volumes.detach_devices()
    assert other_device() == device
    volumes.restore_devices()
    assert devices.devices_of(created.file) == [device_of(attachment)] != [device]


def test_a_restart_of_cinder_volume_leaves_the_devices_alone(volume, attach):
    created = volume()
    before = device_of(attach(created))
    log = settings.LOG / "cinder-volume.log"
    end = log.stat().st_size
    services.restart("cinder-volume")
    # It exports attached volumes before it says this.
    assert eventually(lambda: b"Driver post RPC init" in log.read_bytes()[end:])
    assert devices.devices_of(created.file) == [before]


def test_an_attached_volume_is_extended_with_its_device(admin, volume, attach):
    created = volume()
    device = device_of(attach(created)).removeprefix("/dev/")
    size = devices._SYSFS / device / "size"
    assert int(size.read_text()) * 512 == GIB
    admin.block_storage.extend_volume(created.id, 2)
    assert eventually(lambda: int(size.read_text()) * 512 == 2 * GIB)
