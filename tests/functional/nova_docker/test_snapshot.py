# SPDX-License-Identifier: Apache-2.0
"""Snapshots of servers, and servers booted from them, on a real engine."""

from __future__ import annotations

import tracemalloc

import pytest
from nova import exception
from nova.compute import power_state
from nova.compute import task_states

from tests import archives
from tests import samples

DESCRIBED = {
    "Entrypoint": ["sh", "-c"],
    "Cmd": ["exec sleep 1000"],
    "Env": ["PATH=/bin", "OWN=1"],
    "User": "0:7",
    "WorkingDir": "/tmp",
}


@pytest.fixture
def take(driver, glance):
    """Takes a snapshot; returns the image and the sequence of task states."""

    def snapshot(server):
        states = []

        def update_task_state(task_state, expected_state=None):
            states.append((task_state, expected_state))

        image_meta = samples.image_meta(id=samples.uuid())
        driver.snapshot(None, server.instance, image_meta.id, update_task_state)
        return image_meta, states

    return snapshot


@pytest.fixture(autouse=True)
def no_snapshot_remains(engine):
    yield
    assert not engine.client.list_images({"reference": ["nova-snapshot/*"]})


def test_a_snapshot_boots_with_the_files_and_settings_of_the_server(
    boot, image, take, glance
):
    server = boot(image(archives.busybox_archive(config=DESCRIBED)))
    server.run("echo kept > /tmp/file")
    before = server.inspect()["State"]

    image_meta, states = take(server)

    assert server.inspect()["State"] == before
    assert states == [
        (task_states.IMAGE_PENDING_UPLOAD, None),
        (task_states.IMAGE_UPLOADING, task_states.IMAGE_PENDING_UPLOAD),
    ]
    assert glance.uploads[image_meta.id]["container_format"] == "docker"
    assert glance.uploads[image_meta.id]["disk_format"] == "raw"
    again = boot(image_meta)
    assert again.run("cat /tmp/file; id -g; pwd; echo $OWN") == "kept\n7\n/tmp\n1\n"
    config = again.inspect()["Config"]
    for name in ("Entrypoint", "Cmd", "User", "WorkingDir"):
        assert config[name] == DESCRIBED[name]


def test_a_snapshot_does_not_have_the_identity_of_the_server(boot, take, engine):
    image_meta, _ = take(boot())
    boot(image_meta)
    image = engine.client.inspect_image(f"nova-glance/{image_meta.id}:latest")
    config = image["Config"]
    # They are empty, because the engine cannot remove them.
    assert "NOVA_NETNS=" in config["Env"]
    assert config["Labels"]["org.openstack.nova.uuid"] == ""


@pytest.mark.parametrize("state", ["stopped", "paused", "suspended"])
def test_a_snapshot_can_be_taken_in_each_state(driver, boot, take, state):
    server = boot()
    server.run("echo kept > /file")
    if state == "stopped":
        driver.power_off(server.instance)
    elif state == "paused":
        driver.pause(server.instance)
    else:
        driver.suspend(None, server.instance)
    before = driver.get_info(server.instance).state
    image_meta, _ = take(server)
    assert driver.get_info(server.instance).state == before != power_state.RUNNING
    assert boot(image_meta).run("cat /file") == "kept\n"


def test_a_failed_upload_leaves_nothing(boot, take, glance, monkeypatch):
    def fail(context, image_id, image_info, data, purge_props):
        assert data.read(100)
        raise exception.ImageNotFound(image_id=image_id)

    server = boot()
    monkeypatch.setattr(glance, "update", fail)
    with pytest.raises(exception.ImageNotFound):
        take(server)
    assert server.run("echo runs") == "runs\n"


def test_images_left_by_a_killed_nova_compute_are_removed_at_its_next_start(
    boot, make_driver, engine
):
    server = boot()
    engine.client.commit_container(
        server.name, f"nova-snapshot/{samples.uuid()}", "latest", {}
    )
    make_driver()
    assert not engine.client.list_images({"reference": ["nova-snapshot/*"]})


def test_a_snapshot_of_a_deleted_server_fails_as_not_running(driver, boot, take):
    server = boot()
    driver.destroy(None, server.instance, server.network_info)
    with pytest.raises(exception.InstanceNotRunning):
        take(server)


def test_a_snapshot_is_streamed_without_filling_memory(boot, take, glance, monkeypatch):
    size = 0

    def measure(context, image_id, image_info, data, purge_props):
        nonlocal size
        while chunk := data.read(65536):
            size += len(chunk)

    server = boot()
    server.run("dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null")
    monkeypatch.setattr(glance, "update", measure)
    tracemalloc.start()
    take(server)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 64 * 2**20
    assert peak < 4 * 2**20


def test_an_image_is_cached_once_and_removed_after_a_day(
    driver, image, engine, monkeypatch, glance
):
    image_meta = image()
    monkeypatch.setattr(
        "nova.objects.ImageMeta.from_image_ref", lambda *args: image_meta
    )
    assert driver.cache_image(None, image_meta.id)
    assert not driver.cache_image(None, image_meta.id)
    assert glance.downloads == [image_meta.id]
    tag = f"nova-glance/{image_meta.id}:latest"
    driver.manage_image_cache(None, [])
    assert engine.client.inspect_image(tag)
    cache = driver._image_cache
    cache._unused_since[image_meta.id] -= 25 * 3600
    driver.manage_image_cache(None, [])
    assert not engine.client.list_images({"reference": [tag]})
