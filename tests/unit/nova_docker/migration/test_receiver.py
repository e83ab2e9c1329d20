# SPDX-License-Identifier: Apache-2.0
"""What arrives of servers, and what other hosts may send."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import stat
import threading
import time
import types

import pytest
from nova import conf as nova_conf
from nova import exception
from oslo_utils import uuidutils

from nova_docker import conf
from nova_docker.host.isolation import Isolation
from nova_docker.migration import receiver as receivers
from nova_docker.migration import transport
from nova_docker.migration.receiver import Receiver
from nova_docker.migration.stream import Broken
from nova_docker.migration.stream import Channel
from nova_docker.migration.stream import Refused
from nova_docker.storage.space import NoSpace
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)

SOURCE = "other-host"
FILES = b"layer"


class Pipe:
    """What the sender reads the layer from."""

    def __init__(self, data):
        self._left = data

    def settimeout(self, seconds):
        pass

    def recv(self, size):
        part, self._left = self._left, b""
        return part


class Space:
    """A stand-in for :class:`nova_docker.storage.space.DiskSpace`."""

    free = 1 << 30
    short = False

    @contextlib.contextmanager
    def reserve(self, size=0, files=0):
        self.grow(size)
        yield types.SimpleNamespace(size=size, grow=self.grow)

    def grow(self, size):
        if size > self.free:
            raise NoSpace("1 MiB of the engine's disk are free")
        self.free -= size

    def is_short(self):
        return self.short


class Host:
    """A stand-in for :class:`nova_docker.host.host.Host`."""

    data_root = "/data"
    no_moves: str | None = None

    def __init__(self):
        self.isolation = Isolation()
        self.space = Space()

    def why_no_moves(self):
        return self.no_moves


class Layers:
    """A stand-in for :mod:`nova_docker.privsep.layers`."""

    def __init__(self):
        self.found = {}
        self.error = None

    def unpack(self, root, server, address):
        assert root == Host.data_root
        self.found[server] = b""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(address)
            while piece := stream.recv(4096):
                self.found[server] += piece
        if self.error:
            raise self.error

    def discard(self, root, server):
        self.found.pop(server, None)


@pytest.fixture(autouse=True)
def state(tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    CONF.set_override("host", "this-host")
    yield tmp_path
    CONF.clear_override("state_path")
    CONF.clear_override("host")


@pytest.fixture
def layers(monkeypatch):
    found = Layers()
    monkeypatch.setattr(receivers, "layers", found)
    return found


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def instance():
    return samples.instance()


@pytest.fixture
def moving(monkeypatch, instance):
    """What Nova's database has: one server that moves to this host."""
    found = types.SimpleNamespace(source_compute=SOURCE, dest_compute="this-host")

    def get(context, uuid, status):
        assert status == "migrating"
        if uuid != instance.uuid:
            raise exception.MigrationNotFoundByStatus(instance_id=uuid, status=status)
        return found

    monkeypatch.setattr("nova.objects.Migration.get_by_instance_and_status", get)
    monkeypatch.setattr(
        "nova.objects.Instance.get_by_uuid", lambda *args, **more: instance
    )
    return found


@pytest.fixture
def receiver(host, layers, moving):
    started = Receiver(host)
    started.start()
    yield started
    started.stop()
    wait_until(lambda: not started._open)


@pytest.fixture
def connect(receiver):
    """Connects, as ``nova-docker-receive`` does for another host."""
    with contextlib.ExitStack() as stack:

        def new(source=SOURCE):
            stream = socket.socket(socket.AF_UNIX)
            stream.connect(str(transport.socket_path()))
            channel = Channel(stream)
            stack.callback(channel.close)
            channel.tell(host=source)
            return channel

        yield new


@pytest.fixture
def announce(connect, instance):
    def say(source=SOURCE, without=(), **values):
        channel = connect(source)
        header = {
            "version": receivers.VERSION,
            "server": instance.uuid,
            "image": "sha256:1",
            "level": "user",
            "config_drive": None,
            "size": 5,
            "files": 1,
            "stop_seconds": 0,
        } | values
        channel.tell(**{k: v for k, v in header.items() if k not in without})
        return channel

    return say


def send(channel, data=FILES):
    assert channel.hear() == {"ready": True}
    channel.send_data(Pipe(data))
    assert channel.hear() == {"done": len(data)}


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def nothing(receiver, layers):
    return not layers.found and not receiver._waiting()


def test_a_server_arrives_and_is_taken_once(announce, receiver, layers, instance):
    drive = {"openstack/a": base64.b64encode(b"\0").decode()}
    send(announce(config_drive=drive))
    assert layers.found == {f"nova-{instance.uuid}": FILES}
    wait_until(lambda: not receiver._busy)
    with receiver.taken(instance.uuid) as arrived:
        assert arrived == ("sha256:1", "user", {"openstack/a": b"\0"})
    assert nothing(receiver, layers)
    with (
        pytest.raises(exception.MigrationError, match="nothing of the server"),
        receiver.taken(instance.uuid),
    ):
        pass


def test_only_novas_user_can_connect(receiver):
    assert stat.S_IMODE(transport.socket_path().stat().st_mode) == 0o600


def test_only_novas_user_can_read_what_has_arrived(announce, state):
    send(announce(config_drive={}))
    notes = state / "docker-arriving"
    assert stat.S_IMODE(notes.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in notes.iterdir()] == [0o600]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"server": samples.uuid()}, "Nova is not moving server"),
        ({"source": "third-host"}, "Nova is not moving server"),
        ({"version": 2}, "another release"),
        ({"without": ["image"]}, "does not say 'image'"),
        ({"image": 7}, "does not make sense"),
        ({"image": None}, "does not make sense"),
        ({"level": "none"}, "does not make sense"),
        ({"level": ["user"]}, "does not make sense"),
        ({"server": "../../etc"}, "does not make sense"),
        ({"size": -1}, "does not make sense"),
        ({"size": "5"}, "does not make sense"),
        ({"size": True}, "does not make sense"),
        ({"files": 1.5}, "does not make sense"),
        ({"files": 1 << 70}, "does not make sense"),
        ({"size": 1 << 40}, "of the engine's disk are free"),
        ({"level": "gvisor"}, "cannot run docker:isolation=gvisor: not installed"),
        # The source could otherwise weaken the isolation of a server that it sends.
        ({"level": "shared"}, "less than its flavor"),
        *(
            ({"config_drive": drive}, "not a config drive")
            for drive in (
                {"../a": ""},
                {"a/../../b": ""},
                {"/etc/passwd": ""},
                {"": ""},
                {".": ""},
                {"a": "?"},
                {"a": 1},
                {"a": None},
                ["a"],
                "a",
            )
        ),
    ],
)
def test_what_may_not_come_is_refused_before_the_server_stops(
    announce, receiver, host, layers, values, error
):
    host.isolation._missing["gvisor"] = "not installed"
    with pytest.raises(Refused, match=error):
        announce(**values).hear()
    assert nothing(receiver, layers)


def test_a_server_of_this_host_may_not_come_from_another(announce, moving):
    moving.dest_compute = "third-host"
    with pytest.raises(Refused, match="Nova is not moving server"):
        announce().hear()


def test_another_storage_driver_is_refused(announce, host):
    host.no_moves = "the Docker engine's storage driver is btrfs"
    with pytest.raises(Refused, match=r"this-host: .* is btrfs"):
        announce().hear()


def test_the_name_of_a_server_is_normal(announce, receiver, layers, instance):
    send(announce(server=instance.uuid.upper()))
    assert list(layers.found) == [f"nova-{instance.uuid}"]


def test_nothing_is_left_of_a_transfer_that_is_cut_off(announce, receiver, layers):
    channel = announce()
    assert channel.hear() == {"ready": True}
    wait_until(lambda: layers.found or receiver._waiting())
    channel.close()
    wait_until(lambda: not receiver._busy)
    assert nothing(receiver, layers)


def test_nothing_is_left_if_the_layer_cannot_be_written(announce, receiver, layers):
    layers.error = OSError("tar: No space left on device")
    channel = announce()
    assert channel.hear() == {"ready": True}
    channel.send_data(Pipe(FILES))
    with pytest.raises(Refused, match="No space left"):
        channel.hear()
    wait_until(lambda: not receiver._busy)
    assert nothing(receiver, layers)


def test_a_host_that_sends_more_than_it_has_said_needs_free_space(
    announce, host, receiver, layers
):
    host.space.free = 10
    channel = announce(size=2)
    assert channel.hear() == {"ready": True}
    channel.send_data(Pipe(FILES))
    with pytest.raises(Refused, match="are free"):
        channel.hear()
    assert nothing(receiver, layers)


def test_many_small_files_cannot_fill_the_disk(announce, host):
    host.space.short = True
    channel = announce(size=4 << 20)
    assert channel.hear() == {"ready": True}
    with contextlib.suppress(OSError):
        # In pieces of at most 1 MiB
        channel.send_data(Pipes([b"x" * (1 << 20)] * 3))
    with pytest.raises(Refused, match="disk is full"):
        channel.hear()


class Pipes(Pipe):
    def __init__(self, parts):
        self._parts = iter(parts)

    def recv(self, size):
        return next(self._parts, b"")


def test_a_server_arrives_once_at_a_time(announce, receiver, instance):
    first = announce()
    assert first.hear() == {"ready": True}
    with pytest.raises(Refused, match="still arriving"):
        announce().hear()
    with (
        pytest.raises(exception.MigrationError, match="still arriving"),
        receiver.taken(instance.uuid),
    ):
        pass


def test_the_next_attempt_begins_anew(announce, receiver, layers, instance):
    send(announce())
    wait_until(lambda: not receiver._busy)
    second = announce()
    assert second.hear() == {"ready": True}
    second.close()
    wait_until(lambda: not receiver._busy)
    assert nothing(receiver, layers)


def test_what_an_earlier_process_has_received_is_removed(host, layers, moving, state):
    uuid, broken = uuidutils.generate_uuid(), uuidutils.generate_uuid()
    layers.found = {f"nova-{uuid}": b"", f"nova-{broken}": b""}
    (state / "docker-arriving").mkdir()
    for name in uuid, broken:
        (state / "docker-arriving" / name).write_text(json.dumps({}))
    receiver = Receiver(host)
    receiver.start()
    receiver.stop()
    assert nothing(receiver, layers)


def test_what_cannot_be_removed_does_not_keep_nova_compute_from_starting(
    host, layers, moving, state, monkeypatch, caplog
):
    def discard(root, server):
        raise OSError("busy")

    monkeypatch.setattr(layers, "discard", discard)
    (state / "docker-arriving").mkdir()
    (state / "docker-arriving" / uuidutils.generate_uuid()).touch()
    receiver = Receiver(host)
    receiver.start()
    receiver.stop()
    assert "Failed to remove what has arrived" in caplog.text
    assert receiver._waiting()


def test_a_host_that_says_nothing_does_not_keep_others_out(connect, announce, receiver):
    silent = [connect("silent") for _ in range(20)]
    send(announce())
    assert silent


def test_one_host_cannot_take_all_turns(connect, announce, receiver, monkeypatch):
    entered = itertools.count()
    release = threading.Event()
    real = receiver._receive

    def receive(channel, source, announced):
        if source == "greedy":
            next(entered)
            release.wait(10)
        else:
            real(channel, source, announced)

    monkeypatch.setattr(receiver, "_receive", receive)
    greedy = [announce(source="greedy") for _ in range(10)]
    send(announce())
    assert next(entered) <= receivers._MOST_OF_HOST
    release.set()
    assert greedy


def test_a_host_with_too_many_connections_is_refused(announce, receiver, monkeypatch):
    monkeypatch.setattr(receivers, "_OPEN_OF_HOST", 1)
    first = announce()
    assert first.hear() == {"ready": True}
    with pytest.raises(Refused, match="is receiving 1 servers"):
        announce().hear()


def test_a_stop_ends_transfers(announce, receiver, layers):
    channel = announce()
    assert channel.hear() == {"ready": True}
    receiver.stop()
    with pytest.raises((Broken, OSError)):
        channel.hear(10)
    wait_until(lambda: not receiver._busy)
    assert nothing(receiver, layers)
