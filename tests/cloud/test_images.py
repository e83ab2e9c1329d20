# SPDX-License-Identifier: Apache-2.0
"""Images of servers, and images on the host, as their users see them."""

from __future__ import annotations

import pytest
from oslo_utils import uuidutils

from nova_docker.container import name_of
from tests import archives
from tests.cloud.conftest import eventually


@pytest.fixture
def snapshot(demo):
    """Makes an image of a server; it is deleted when the test ends."""
    made = []

    def take(server):
        name = f"test-{uuidutils.generate_uuid()}"
        image = demo.compute.create_server_image(server.id, name, wait=False)
        made.append(image)
        eventually(lambda: demo.image.get_image(image).status in ("active", "killed"))
        assert demo.image.get_image(image).status == "active"
        eventually(lambda: server.show().task_state is None)
        return name

    yield take
    for image in made:
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
def test_a_server_that_does_not_run_has_a_snapshot_too(
    boot, snapshot, action, back, status
):
    server = boot()
    server.run("echo kept > /file")
    server.act(action, until=status)
    name = snapshot(server)
    assert server.status == status
    server.act(back, until="ACTIVE")
    assert boot(name).run("cat /file") == "kept\n"


def test_a_server_is_rebuilt_from_another_image_and_back_from_its_own(
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


@pytest.mark.parametrize("stopped", [False, True])
def test_a_shelved_server_leaves_the_host_and_comes_back(boot, engine, stopped):
    server = boot()
    server.run("echo kept > /file")
    address = server.address()
    if stopped:
        server.act("stop_server", until="SHUTOFF")
    # The cloud offloads at once, as Nova does unless told otherwise.
    server.act("shelve_server", until="SHELVED_OFFLOADED")
    assert not engine.list_containers(filters={"name": [name_of(server.id)]})
    server.act("unshelve_server", until="ACTIVE")
    assert server.run("cat /file") == "kept\n"
    assert server.address() == address
    assert address in server.run("ip -o addr show dev eth0")


def test_an_image_is_on_the_host_before_the_first_server(admin, upload, engine):
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
