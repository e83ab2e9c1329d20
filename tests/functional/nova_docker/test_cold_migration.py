# SPDX-License-Identifier: Apache-2.0
"""A server moves from one engine to another, with a stand-in for ssh."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time
import types

import pytest
from nova import exception
from nova.compute import power_state

from nova_docker.boot import Boot
from nova_docker.driver import CONF
from nova_docker.host.host import Host
from nova_docker.image.locations import ImageLocations
from nova_docker.image.store import ImageStore
from nova_docker.migration import transport
from nova_docker.migration.cold import ColdMigration
from nova_docker.migration.receiver import Receiver
from tests import engine as engines
from tests import samples
from tests.functional.host import Server
from tests.functional.host import state

ADDRESS = "192.0.2.99"
RECEIVE = pathlib.Path(__file__).parents[3] / "bin/nova-docker-receive"
CHANGE = (
    "echo moved > /etc/moved; rm /bin/tar; ln /etc/moved /etc/hard; "
    "mkdir /srv; head -c 3000000 /dev/urandom > /srv/data; chown 7:8 /srv/data; "
    "chmod 4711 /srv/data; sha256sum /srv/data; ls -n /srv /etc/hard"
)
LOOK = "sha256sum /srv/data; ls -n /srv /etc/hard"


class Nics:
    """Those of a server that has some already: both hosts are the same."""

    @contextlib.contextmanager
    def wired(self, instance, network_info):
        yield

    def plug(self, instance, network_info, *, level):
        pass

    def cut(self, instance):
        pass

    def unplug(self, instance, network_info):
        pass

    def release(self, uuid):
        pass


@pytest.fixture(scope="module")
def other_engine():
    with engines.running() as engine:
        yield engine


@pytest.fixture
def other(other_engine, glance, boot, monkeypatch):
    """The part of the other host's driver to which servers move."""
    client = other_engine.client
    host = Host(client)
    host.connect("nova")
    images = ImageStore(client, glance, host.space, ImageLocations())
    receiver = Receiver(host)
    receiver.start()
    migration = ColdMigration(
        client, host, Boot(client, host, images, Nics()), receiver, glance
    )
    yield types.SimpleNamespace(
        arrive=migration.arrive, receiver=receiver, engine=other_engine, host=host
    )
    receiver.stop()
    for found in client.list_containers():
        client.remove_container(found["Id"])


@pytest.fixture
def ssh(other, monkeypatch):
    """Replaces ssh; takes what it does, with the command in its first argument."""
    with tempfile.TemporaryDirectory(prefix="nd-") as directory:
        path = pathlib.Path(directory, "ssh")
        receive = f"{RECEIVE} {transport.socket_path()} source-host"

        def write(script="exec {}"):
            path.write_text(f"#!/bin/sh\n{script.format(receive)}\n")
            path.chmod(0o755)

        write()
        monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
        yield write


@pytest.fixture
def moving(driver, ssh, monkeypatch):
    """Moves a server away, as Nova does."""

    def move(server):
        found = types.SimpleNamespace(
            source_compute="source-host", dest_compute=CONF.host
        )
        monkeypatch.setattr(
            "nova.objects.Migration.get_by_instance_and_status", lambda *args: found
        )
        monkeypatch.setattr(
            "nova.objects.Instance.get_by_uuid",
            lambda *args, **more: server.instance,
        )
        driver.migrate_disk_and_power_off(
            samples.request_context(),
            server.instance,
            ADDRESS,
            server.instance.flavor,
            server.network_info,
        )

    return move


def left(other):
    stage = pathlib.Path(other.host.data_root, "nova-docker-arriving")
    return [
        *other.receiver._waiting(),
        *(os.listdir(stage) if stage.exists() else ()),
    ]


def settled(other):
    deadline = time.monotonic() + 20
    while other.receiver._busy and time.monotonic() < deadline:
        time.sleep(0.05)
    return not other.receiver._busy


def test_a_server_moves_with_its_files(driver, boot, image, moving, other):
    image_meta = image()
    server = boot(image_meta)
    before = server.run(CHANGE)
    moving(server)
    assert state(driver, server) == power_state.SHUTDOWN
    assert settled(other)
    other.arrive(
        samples.request_context(), server.instance, image_meta, server.network_info
    )
    assert not left(other)
    there = Server(server.instance, server.network_info, other.engine)
    assert there.inspect()["Image"] == server.inspect()["Image"]
    assert there.inspect()["State"]["Status"] == "created"
    other.engine.client.start_container(there.name)
    assert there.run(LOOK) == before
    assert there.run("cat /etc/moved") == "moved\n"
    with pytest.raises(subprocess.CalledProcessError):
        there.run("ls /bin/tar")
    # Until the move is confirmed, it can return.
    other.engine.client.remove_container(there.name)
    driver.power_on(None, server.instance, server.network_info)
    assert server.run(LOOK) == before


@pytest.mark.parametrize(
    "script",
    [
        "dd bs=65536 count=4 status=none | {}",
        "dd bs=100 count=1 status=none of=/dev/null",
    ],
)
def test_a_server_runs_on_if_the_connection_ends(
    driver, boot, moving, other, ssh, script
):
    server = boot()
    before = server.run(CHANGE)
    ssh(script)
    with pytest.raises(exception.InstanceFaultRollback) as failed:
        moving(server)
    assert isinstance(failed.value.inner_exception, exception.MigrationError)
    assert state(driver, server) == power_state.RUNNING
    assert server.run(LOOK) == before
    assert settled(other)
    assert not left(other)


def test_a_server_runs_on_if_the_other_nova_compute_stops(
    driver, boot, moving, other, monkeypatch
):
    server = boot()
    server.run("echo kept > /etc/kept")
    monkeypatch.setattr(
        other.receiver, "_receive_layer", lambda *args: other.receiver.stop()
    )
    with pytest.raises(exception.InstanceFaultRollback) as failed:
        moving(server)
    assert isinstance(failed.value.inner_exception, exception.MigrationError)
    assert state(driver, server) == power_state.RUNNING
    assert server.run("cat /etc/kept") == "kept\n"


def test_a_server_of_another_image_does_not_arrive(driver, boot, image, moving, other):
    server = boot(image())
    server.run("echo kept > /etc/kept")
    moving(server)
    assert settled(other)
    with pytest.raises(exception.MigrationError, match="not the one that the server"):
        other.arrive(
            samples.request_context(),
            server.instance,
            image(files={"other": b"image"}),
            server.network_info,
        )
    assert not left(other)
    assert not other.engine.client.list_containers()
    driver.power_on(None, server.instance, server.network_info)
    assert server.run("cat /etc/kept") == "kept\n"
