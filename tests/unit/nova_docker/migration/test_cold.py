# SPDX-License-Identifier: Apache-2.0
"""Servers that leave a host and that arrive: what a failure leaves, and where."""

from __future__ import annotations

import contextlib
import socket
import threading
import types

import pytest
from nova import exception

from docker_engine.mock.client import MockDockerClient
from nova_docker.container import naming
from nova_docker.container.isolation import LABEL
from nova_docker.host.isolation import Isolation
from nova_docker.migration import cold
from nova_docker.migration.cold import ColdMigration
from nova_docker.migration.receiver import VERSION
from nova_docker.migration.receiver import Arrived
from nova_docker.migration.stream import Broken
from nova_docker.migration.stream import Channel
from nova_docker.volume import ephemerals
from tests import archives
from tests import samples

IMAGE = "image:latest"
FILES = b"layer" * 100_000
SECONDS = 7


class Host:
    """A stand-in for :class:`nova_docker.host.host.Host`."""

    data_root = "/data"
    no_moves: str | None = None
    isolation = Isolation()

    def why_no_moves(self):
        return self.no_moves


class Layers:
    """A stand-in for :mod:`nova_docker.privsep.layers`."""

    error: Exception | None = None

    def __init__(self):
        self.adopted = []

    def size(self, layer):
        return len(FILES), 3

    def pack(self, layer, address):
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(address)
            with contextlib.suppress(BrokenPipeError):
                stream.sendall(FILES)
        if self.error:
            raise self.error

    def adopt(self, *arguments):
        self.adopted.append(arguments)


class Boot:
    """A stand-in for :class:`nova_docker.boot.Boot`, which only fills the server."""

    def move_in(self, context, instance, image_meta, nics, level, drive, fill):
        self.got = level, drive
        fill()


class Receiver:
    """A stand-in for :class:`nova_docker.migration.receiver.Receiver`."""

    arrived: Arrived | None = None
    left = False

    @contextlib.contextmanager
    def taken(self, uuid):
        try:
            yield self.arrived
        finally:
            self.left = True


class Server:
    """What happens to the server that leaves, in order."""

    def __init__(self):
        self.events = []

    @contextlib.contextmanager
    def withdrawn(self):
        self.events.append("withdrawn")
        try:
            yield
        except Exception:
            self.events.append("started")
            raise

    def stop(self):
        self.events.append("stopped")


@pytest.fixture
def instance():
    return samples.instance()


@pytest.fixture
def client(instance):
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=[IMAGE])])
    mock.create_container(
        naming.name_of(instance.uuid), {"Image": IMAGE, "Labels": {LABEL: "user"}}
    )
    real = mock.inspect_container

    def inspect(*arguments, **more):
        found = real(*arguments, **more)
        found["GraphDriver"] = {"Data": {"UpperDir": "/data/layer"}}
        return found | {"Mounts": mock.mounts}

    mock.mounts = []
    mock.inspect_container = inspect
    return mock


@pytest.fixture
def layers(monkeypatch):
    found = Layers()
    monkeypatch.setattr(cold, "layers", found)
    return found


@pytest.fixture
def images():
    def get(context, image_id):
        if images.error:
            raise images.error

    images = types.SimpleNamespace(get=get, error=None)
    return images


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def receiver():
    return Receiver()


@pytest.fixture
def boot():
    return Boot()


@pytest.fixture
def migration(client, host, boot, receiver, images, layers, monkeypatch):
    monkeypatch.setattr(ephemerals, "has_any", lambda uuid: False)
    monkeypatch.setattr(cold.config_drive, "read", lambda uuid: {"a": b"\0"})
    return ColdMigration(client, host, boot, receiver, images)


@pytest.fixture
def other(monkeypatch):
    """Lets a function be the other host; it gets the channel."""
    ours, theirs = map(Channel, socket.socketpair())

    @contextlib.contextmanager
    def connected(address):
        assert address == "192.0.2.7"
        try:
            yield ours
        except (Broken, OSError) as error:
            raise exception.MigrationError(reason=f"ssh: {error}") from error
        finally:
            ours.close()

    monkeypatch.setattr(cold.transport, "connected", connected)
    threads = []

    def play(role):
        def run():
            role(theirs)
            theirs.close()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    yield play
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    theirs.close()


class Sink:
    def __init__(self):
        self.data = bytearray()

    def settimeout(self, seconds):
        pass

    def sendall(self, data):
        self.data += data


def leave(migration, instance, server):
    migration.leave(
        None, instance, "192.0.2.7", SECONDS, server.withdrawn(), server.stop
    )


def test_a_server_is_sent_when_the_other_host_is_ready(
    migration, instance, client, other
):
    server, sink, header = Server(), Sink(), {}

    def take(channel):
        header.update(channel.hear())
        header["events"] = list(server.events)
        channel.tell(ready=True)
        channel.receive_data(sink)
        channel.tell(done=1)

    other(take)
    leave(migration, instance, server)
    assert sink.data == FILES
    assert header == {
        "version": VERSION,
        "server": instance.uuid,
        "image": client.inspect_image(IMAGE)["Id"],
        "level": "user",
        "config_drive": {"a": "AA=="},
        "size": len(FILES),
        "files": 3,
        "stop_seconds": SECONDS,
        "events": [],
    }
    assert server.events == ["withdrawn", "stopped"]


@pytest.mark.parametrize(
    ("obstacle", "error"),
    [
        ("driver", "the storage driver is btrfs"),
        ("ephemeral", "has ephemeral disks, which stay"),
        ("volume", "rebuild it first"),
        ("image", "Glance does not have any more"),
    ],
)
def test_a_server_that_cannot_move_is_not_stopped(
    migration, instance, client, host, images, monkeypatch, obstacle, error
):
    if obstacle == "driver":
        host.no_moves = "the storage driver is btrfs"
    elif obstacle == "ephemeral":
        monkeypatch.setattr(ephemerals, "has_any", lambda uuid: True)
    elif obstacle == "volume":
        client.mounts.append({"Type": "volume"})
    else:
        images.error = exception.ImageNotFound(image_id="1")
    server = Server()
    with pytest.raises(exception.MigrationPreCheckError, match=error):
        leave(migration, instance, server)
    assert not server.events


def test_a_server_that_the_other_host_refuses_is_not_stopped(
    migration, instance, other
):
    def refuse(channel):
        channel.hear()
        channel.tell(error="no gVisor")

    other(refuse)
    server = Server()
    with pytest.raises(exception.MigrationPreCheckError, match="no gVisor"):
        leave(migration, instance, server)
    assert not server.events


@pytest.mark.parametrize("said", [True, False])
def test_a_server_runs_again_if_it_cannot_be_received(migration, instance, other, said):
    def fail(channel):
        channel.hear()
        channel.tell(ready=True)
        channel.receive_data(Sink())
        if said:
            channel.tell(error="the disk is full")

    other(fail)
    server = Server()
    error = "the disk is full" if said else "the connection has ended"
    with pytest.raises(exception.MigrationError, match=error):
        leave(migration, instance, server)
    assert server.events == ["withdrawn", "stopped", "started"]


def test_a_server_runs_again_if_the_connection_ends_in_the_middle(
    migration, instance, other
):
    def fail(channel):
        channel.hear()
        channel.tell(ready=True)

    other(fail)
    server = Server()
    with pytest.raises(exception.MigrationError):
        leave(migration, instance, server)
    assert server.events == ["withdrawn", "stopped", "started"]


def test_a_server_runs_again_if_its_files_cannot_be_read(
    migration, instance, other, layers
):
    layers.error = OSError("tar: read error")

    def take(channel):
        channel.hear()
        channel.tell(ready=True)
        with contextlib.suppress(Broken):
            channel.receive_data(Sink())
            raise AssertionError("it was taken for complete")

    other(take)
    server = Server()
    with pytest.raises(exception.MigrationError, match="tar: read error"):
        leave(migration, instance, server)
    assert server.events == ["withdrawn", "stopped", "started"]


def arrive(migration, instance):
    migration.arrive(None, instance, samples.image_meta(), samples.nics())


def test_a_server_arrives_with_its_files(
    migration, instance, client, boot, receiver, layers
):
    image = client.inspect_image(IMAGE)["Id"]
    receiver.arrived = Arrived(image, "user", {"a": b""})
    arrive(migration, instance)
    assert boot.got == ("user", {"a": b""})
    name = naming.name_of(instance.uuid)
    assert layers.adopted == [("/data", name, "/data/layer")]
    assert receiver.left


def test_a_server_of_another_image_gets_no_files(migration, instance, receiver, layers):
    receiver.arrived = Arrived("sha256:other", "user", None)
    with pytest.raises(exception.MigrationError, match="not the one that the server"):
        arrive(migration, instance)
    assert not layers.adopted
    assert receiver.left


def test_a_resize_cannot_weaken_the_isolation(migration, receiver, layers):
    receiver.arrived = Arrived("sha256:1", "shared", None)
    with pytest.raises(exception.MigrationError, match="less than its flavor"):
        arrive(migration, samples.instance())
    assert not layers.adopted
