# SPDX-License-Identifier: Apache-2.0
"""nova-compute and what it works with are killed, or away, in the middle of a verb.

Afterwards Nova's state is true, and trying again or deleting the server works; the
fixtures check that nothing is left. tests/functional kills the driver at every step.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

import pytest

from docker_engine import errors
from docker_engine.reference import SNAPSHOT_REPOSITORY
from nova_docker.container.naming import UUID_LABEL
from nova_docker.container.naming import aside_name_of
from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud import outages
from tests.cloud import services
from tests.cloud.conftest import eventually

AWAY = 15  # seconds

# All of them take some minutes: `tox -e kills`.
more = pytest.mark.skipif(
    not os.environ.get("NOVA_DOCKER_ALL_KILLS"), reason="only tox -e kills runs this"
)


@pytest.fixture
def killed_at(engine):
    """Kills nova-compute when the engine reports an action of a server's container.

    When the block has ended, nova-compute is up again.
    """

    @contextlib.contextmanager
    def kill(action, server=None):
        filters = {"type": ["container"], "event": [action]}
        if server:
            filters["label"] = [f"{UUID_LABEL}={server.id}"]
        seen = threading.Event()

        def follow():
            with contextlib.suppress(errors.DockerError):
                for _ in stream:
                    outages.kill("nova-compute")
                    seen.set()
                    return

        with engine.events(filters=filters) as stream:
            thread = threading.Thread(target=follow, daemon=True)
            thread.start()
            yield
            assert seen.wait(60), f"the engine has reported no {action}"
            thread.join()
        services.start("nova-compute")

    return kill


@pytest.fixture
def running(engine):
    """Tells whether the container of a server runs."""

    def look(server):
        return engine.inspect_container(name_of(server.id))["State"]["Running"]

    return look


@pytest.fixture
def fresh(upload):
    """Uploads an image that the host does not have."""

    def make():
        serial = os.urandom(8).hex().encode()
        return upload(archives.busybox_archive(files={"serial": serial}))

    return make


def settled(server):
    return eventually(lambda: not server.show().task_state and server.status != "BUILD")


def test_boot(boot, killed_at):
    with killed_at("create"):
        server = boot(until=None)
    assert settled(server)
    assert server.status == "ERROR"
    boot()


def test_delete(boot, demo, killed_at):
    server = boot()
    found = server.show()
    with killed_at("die", server):
        demo.compute.delete_server(server.id)
    demo.compute.wait_for_delete(found, interval=0.2, wait=60)


def test_snapshot(boot, demo, engine, killed_at, running):
    server = boot()
    with killed_at("commit", server):
        image = demo.compute.create_server_image(server.id, "test-killed")
    try:
        assert settled(server)
        assert server.status == "ACTIVE" and running(server)
        names = {"reference": [f"{SNAPSHOT_REPOSITORY}/*"]}
        assert eventually(lambda: not engine.list_images(names), timeout=20)
    finally:
        demo.image.delete_image(image.id)
    image = demo.compute.create_server_image(server.id, "test-again", wait=True)
    demo.image.delete_image(image.id)


def test_rescue(boot, admin, demo, engine, killed_at, running):
    server = boot()
    server.run("touch /kept")
    with killed_at("rename", server):
        demo.compute.rescue_server(server.id)
    # Nova leaves the task state as it is, so that users can only delete the server.
    admin.compute.reset_server_state(server.id, "active")
    assert eventually(lambda: running(server))
    server.run("ls /kept")
    with pytest.raises(errors.ContainerNotFound):
        engine.inspect_container(aside_name_of(server.id))
    server.act("rescue_server", until="RESCUE")
    server.act("unrescue_server", until="ACTIVE")
    server.run("ls /kept")


@more
def test_rebuild(boot, demo, killed_at):
    server = boot()
    with killed_at("destroy", server):
        demo.compute.rebuild_server(server.id, image=server.show().image.id)
    assert settled(server)
    assert server.status == "ERROR"
    demo.compute.rebuild_server(server.id, image=server.show().image.id)
    assert eventually(lambda: server.status == "ACTIVE")
    server.run("true")


@more
def test_resize(boot, demo, engine, flavor, killed_at, running):
    server = boot()
    large = demo.compute.find_flavor(flavor(ram=128)).id
    with killed_at("update", server):
        demo.compute.resize_server(server.id, large)
    assert eventually(
        lambda: not server.show().task_state and server.status != "RESIZE"
    )
    assert running(server)
    memory = engine.inspect_container(name_of(server.id))["HostConfig"]["Memory"]
    assert memory == server.show().flavor.ram * 2**20
    if server.status == "ACTIVE":
        server.act("resize_server", large, until="VERIFY_RESIZE")
    server.act("confirm_server_resize", until="ACTIVE")


def kill_privsep():
    for daemon in outages.privsep_daemons():
        daemon.kill()


FAULTS = {
    "engine": lambda: outages.kill("dockerd"),
    "containerd": lambda: outages.kill("containerd"),
    "privsep daemons": kill_privsep,
    "ovs-vswitchd": lambda: outages.kill("ovs-vswitchd"),
    "ovn-controller": lambda: outages.kill("ovn-controller"),
    "nova-conductor": lambda: outages.kill_with_workers("nova-conductor"),
    "Glance": lambda: outages.take_away("glance", AWAY),
    "Neutron": lambda: outages.take_away("neutron", AWAY),
    "Placement": lambda: outages.take_away("placement", AWAY),
    "RabbitMQ": lambda: outages.freeze("rabbitmq", AWAY),
}


@more
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("delay", [0, 1.5])
def test_a_fault_in_the_middle_of_a_boot(boot, demo, fresh, running, fault, delay):
    image = fresh()
    server = boot(image, until=None)
    time.sleep(delay)
    FAULTS[fault]()
    for service in (
        "containerd",
        "dockerd",
        "ovs-vswitchd",
        "ovn-controller",
        "nova-conductor",
    ):
        services.start(service)
    # A killed nova-conductor may lose the request, which Nova does not repeat: the
    # server stays in BUILD, and can only be deleted, which the fixture does.
    assert fault == "nova-conductor" or settled(server), server.show()
    if server.status == "ACTIVE":
        # The engine may have ended the server when it started again.
        assert eventually(lambda: running(server) == (server.status == "ACTIVE"))
        server.act("reboot_server", "HARD", until="ACTIVE")
    # The driver and Neutron work as before.
    other = boot(image)
    assert other.address() in other.run("ip -o addr show dev eth0")


@more
def test_a_shim_is_killed(boot, engine, running):
    server = boot()
    identifier = engine.inspect_container(name_of(server.id))["Id"]
    outages.shims()[identifier].kill()
    assert eventually(lambda: server.status == "SHUTOFF", timeout=30)
    assert not running(server)
    server.act("start_server", until="ACTIVE")
    server.run("true")
