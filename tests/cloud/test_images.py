# SPDX-License-Identifier: Apache-2.0
"""Snapshots, rebuilding, shelving, and the image cache of the host."""

from __future__ import annotations

import pytest
from oslo_utils import uuidutils

from cloud import images
from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud import services
from tests.cloud.conftest import eventually


@pytest.fixture
def snapshot(demo):
    """Takes a snapshot, and returns the image's name."""
    created = []

    def take(server):
        name = f"test-{uuidutils.generate_uuid()}"
        image = demo.compute.create_server_image(server.id, name, wait=False)
        created.append(image)
        eventually(lambda: demo.image.get_image(image).status in ("active", "killed"))
        assert demo.image.get_image(image).status == "active"
        eventually(lambda: server.show().task_state is None)
        return name

    yield take
    for image in created:
        demo.image.delete_image(image)


def test_a_snapshot_of_a_running_server_boots(boot, snapshot, engine):
    server = boot()
    server.run("echo kept > /file")
    before = engine.inspect_container(name_of(server.id))["State"]
    name = snapshot(server)
    assert engine.inspect_container(name_of(server.id))["State"] == before
    assert boot(name).run("cat /file") == "kept\n"
    assert not engine.list_images({"reference": ["nova-snapshot/*"]})


@pytest.mark.parametrize(
    ("action", "back", "status"),
    [
        ("stop_server", "start_server", "SHUTOFF"),
        ("pause_server", "unpause_server", "PAUSED"),
        ("suspend_server", "resume_server", "SUSPENDED"),
    ],
)
def test_a_snapshot_of_an_inactive_server_boots(boot, snapshot, action, back, status):
    server = boot()
    server.run("echo kept > /file")
    server.act(action, until=status)
    name = snapshot(server)
    assert server.status == status
    server.act(back, until="ACTIVE")
    assert boot(name).run("cat /file") == "kept\n"


def test_a_server_is_rebuilt_from_an_image_and_from_its_snapshot(
    boot, snapshot, demo, upload
):
    server = boot()
    server.run("echo kept > /file")
    address = server.address()
    name = snapshot(server)
    other = upload(archives.busybox_archive(config={"Env": ["OTHER=1"]}))
    for image, expected in ((other, "no file"), (name, "kept")):
        image_id = demo.image.find_image(image).id
        server.act("rebuild_server", image_id, until="ACTIVE")
        assert server.show().image.id == image_id
        assert server.run("cat /file || echo no file") == f"{expected}\n"
        assert address in server.run("ip -o addr show dev eth0")


def test_a_stopped_server_is_rebuilt_with_a_new_name_and_stays_stopped(boot, demo):
    server = boot()
    server.run("echo old > /file")
    server.act("stop_server", until="SHUTOFF")
    image = demo.image.find_image(images.BUSYBOX).id
    demo.compute.rebuild_server(server.id, image=image, name="renamed")
    eventually(lambda: server.status == "SHUTOFF" and not server.show().task_state)
    assert (server.status, server.show().name) == ("SHUTOFF", "renamed")
    server.act("start_server", until="ACTIVE")
    assert server.run("cat /file || echo no file") == "no file\n"
    assert server.address() in server.run("ip -o addr show dev eth0")


def test_a_server_survives_a_rebuild_from_a_bad_image(boot, demo, upload):
    server = boot()
    server.run("echo kept > /file")
    bad = demo.image.find_image(upload(b"not an archive" * 99)).id
    demo.compute.rebuild_server(server.id, image=bad)
    assert eventually(lambda: server.status == "ERROR")
    assert "archive" in server.show().fault["message"]
    assert server.run("cat /file") == "kept\n"
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert server.run("cat /file") == "kept\n"
    assert server.address() in server.run("ip -o addr show dev eth0")


def test_a_shelved_server_stays_on_the_host_until_it_is_offloaded(boot, admin, engine):
    """With shelved_offload_time = -1, Nova does not offload shelved servers."""
    with services.configured(
        services.NOVA_CONF,
        "[DEFAULT]\n",
        "[DEFAULT]\nshelved_offload_time = -1\n",
        "nova-compute",
    ):
        server = boot()
        server.run("echo kept > /file")
        server.act("shelve_server", until="SHELVED")
        assert engine.list_containers(filters={"name": [name_of(server.id)]})
        server.act("unshelve_server", until="ACTIVE")
        assert server.run("cat /file") == "kept\n"
        server.act("shelve_server", until="SHELVED")
    admin.compute.shelve_offload_server(server.id)
    assert eventually(lambda: server.status == "SHELVED_OFFLOADED")
    assert not engine.list_containers(filters={"name": [name_of(server.id)]})
    server.act("unshelve_server", until="ACTIVE")
    assert server.run("cat /file") == "kept\n"
    assert server.address() in server.run("ip -o addr show dev eth0")


@pytest.mark.parametrize("stopped", [False, True])
def test_an_offloaded_server_is_unshelved(boot, engine, stopped):
    server = boot()
    server.run("echo kept > /file")
    address = server.address()
    if stopped:
        server.act("stop_server", until="SHUTOFF")
    # The cloud offloads at once, which is Nova's default.
    server.act("shelve_server", until="SHELVED_OFFLOADED")
    assert not engine.list_containers(filters={"name": [name_of(server.id)]})
    server.act("unshelve_server", until="ACTIVE")
    assert server.run("cat /file") == "kept\n"
    assert server.address() == address
    assert address in server.run("ip -o addr show dev eth0")


def test_an_image_is_cached_before_the_first_boot(admin, upload, engine):
    image = admin.image.find_image(upload(archives.busybox_archive()))
    admin.image.update_image(image, visibility="public")
    [host] = [
        found.host
        for found in admin.compute.services(binary="nova-compute")
        if found.host == "docker-host"
    ]
    aggregate = admin.compute.create_aggregate(name="cached")
    try:
        admin.compute.add_host_to_aggregate(aggregate, host)
        admin.compute.aggregate_precache_images(aggregate, [image.id])
        tag = f"nova-glance/{image.id}:latest"
        assert eventually(lambda: engine.list_images({"reference": [tag]}))
        admin.compute.remove_host_from_aggregate(aggregate, host)
    finally:
        admin.compute.delete_aggregate(aggregate)


def test_unused_images_are_removed_from_the_host(boot, upload, engine, demo):
    used, unused = (upload(archives.busybox_archive()) for _ in range(2))
    operators = archives.busybox_archive(tags=["operator/tool:1"])
    with services.configured(
        services.NOVA_CONF,
        "[vnc]\n",
        "[image_cache]\n"
        "manager_interval = 1\n"
        "remove_unused_original_minimum_age_seconds = 1\n\n[vnc]\n",
        "nova-compute",
    ):
        engine.load_image([operators])
        try:
            boot(used)
            deleted = boot(unused)
            assert on_host(engine, demo, unused)
            demo.compute.delete_server(deleted.id)
            assert eventually(lambda: not on_host(engine, demo, unused))
            assert on_host(engine, demo, used)
            assert engine.inspect_image("operator/tool:1")
        finally:
            engine.remove_image("operator/tool:1")


def on_host(engine, demo, name):
    image_id = demo.image.find_image(name).id
    return engine.list_images({"reference": [f"nova-glance/{image_id}:latest"]})
