# SPDX-License-Identifier: Apache-2.0
"""The volumes of servers, with fakes of os-brick and of the host's devices."""

from __future__ import annotations

import errno
import pathlib
from typing import Any

import pytest
from nova import exception
from os_brick import exception as brick_exception
from oslo_concurrency import processutils

from docker_engine.mock.client import MockDockerClient
from nova_docker import conf
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import volume_mode
from nova_docker.volume import connections
from nova_docker.volume import ephemerals
from nova_docker.volume import filesystems as filesystems_module
from nova_docker.volume import mode as mode_module
from nova_docker.volume import volumes as module
from nova_docker.volume.volumes import Volumes
from tests import archives
from tests import samples
from tests.unit.nova_docker import fake_volumes

conf.register_opts(connections.CONF)

NUMBER = fake_volumes.number_of(fake_volumes.DEVICE)


class Power:
    """Stops and starts servers of the mock engine."""

    def __init__(self, client):
        self.client = client

    def stop(self, instance, timeout):
        self.client.stop_container(naming.name_of(instance.uuid), timeout)

    def start(self, instance, network_info):
        self.client.start_container(naming.name_of(instance.uuid))


@pytest.fixture
def client():
    client = MockDockerClient()
    client.load_image([archives.busybox_archive(tags=["busybox:latest"])])
    return client


@pytest.fixture
def make_server(client):
    def make(level=isolation.USER, running=True):
        instance = samples.instance()
        name = naming.name_of(instance.uuid)
        labels = {**naming.labels(instance), isolation.LABEL: level}
        client.create_container(name, {"Image": "busybox:latest", "Labels": labels})
        if running:
            client.start_container(name)
        return instance

    return make


@pytest.fixture
def server(make_server):
    return make_server()


@pytest.fixture
def stopped(make_server):
    return make_server(running=False)


@pytest.fixture
def devices(monkeypatch):
    fake = fake_volumes.Devices()
    for where in module, mode_module, filesystems_module:
        monkeypatch.setattr(where, "devices", fake)
    return fake


@pytest.fixture
def obstacles():
    return []


@pytest.fixture
def make_volumes(client, devices, obstacles):
    """Makes them, as each start of nova-compute does."""
    return lambda: Volumes(
        client, Power(client), lambda: obstacles[0] if obstacles else None
    )


@pytest.fixture
def volumes(make_volumes):
    return make_volumes()


def volume(name="volume-1"):
    return {
        "driver_volume_type": "iscsi",
        "serial": name,
        "data": {"target_iqn": f"iqn.2010-10.org.openstack:{name}"},
    }


class Mapping(dict[str, Any]):
    """An item of Nova's block device mapping, which Nova has recorded."""

    saved = None

    def save(self):
        self.saved = dict(self["connection_info"]["data"])


def mapping(*infos):
    return {
        "block_device_mapping": [
            Mapping(mount_device=f"/dev/vd{letter}", connection_info=info)
            for letter, info in zip("bcd", infos, strict=False)
        ]
    }


def name_of(instance):
    return naming.name_of(instance.uuid)


def test_a_running_server_gets_and_loses_a_volume(volumes, server, devices, connector):
    info = volume()
    volumes.attach(info, server, "/dev/vdb")
    assert devices.inside == [(name_of(server), "vdb", NUMBER)]
    volumes.detach(info, server, "/dev/vdb")
    assert devices.inside == []
    assert not devices.has_any(name_of(server))
    assert connector.connected == []


def test_a_stopped_server_has_volumes_too(volumes, stopped, devices, connector):
    info = volume()
    volumes.attach(info, stopped, "/dev/vdb")
    assert devices.inside == []
    assert devices.recorded(name_of(stopped)) == {"vdb": NUMBER}
    assert connector.connected == [info["data"]]


def test_an_attachment_that_fails_leaves_nothing(volumes, server, devices, connector):
    devices.error = OSError(errno.EEXIST, "it exists")
    with pytest.raises(exception.VolumeAttachFailed, match="it exists"):
        volumes.attach(volume(), server, "/dev/vdb")
    assert not devices.has_any(name_of(server))
    assert connector.connected == []


def test_a_volume_that_cannot_be_connected_is_not_attached(
    volumes, server, devices, connector
):
    connector.error = RuntimeError("no route\nto host")
    with pytest.raises(exception.VolumeAttachFailed, match=r"no route\\nto host"):
        volumes.attach(volume(), server, "/dev/vdb")
    assert not devices.has_any(name_of(server))


def test_a_server_that_has_just_ended_gets_its_volume_at_its_next_start(
    volumes, server, devices
):
    devices.error = ProcessLookupError(errno.ESRCH, "gone")
    volumes.attach(volume(), server, "/dev/vdb")
    assert devices.recorded(name_of(server)) == {"vdb": NUMBER}


def test_a_volume_whose_tag_cannot_be_recorded_is_detached_again(
    volumes, server, devices, connector
):
    attached = volumes.attached(volume(), server, "/dev/vdb")
    with pytest.raises(exception.InstanceNotFound), attached:
        raise exception.InstanceNotFound(instance_id=server.uuid)
    assert devices.inside == []
    assert connector.connected == []


def test_a_volume_in_use_stays_attached(volumes, server, devices, connector):
    info = volume()
    volumes.attach(info, server, "/dev/vdb")
    devices.open.add(NUMBER)
    with pytest.raises(exception.DeviceDetachFailed, match=r"7 \(dd\)"):
        volumes.detach(info, server, "/dev/vdb")
    assert devices.recorded(name_of(server)) == {"vdb": NUMBER}
    assert connector.connected == [info["data"]]


def test_where_devices_cannot_change_the_server_must_be_stopped(
    volumes, server, obstacles, client, devices
):
    info = volume()
    obstacles.append("the host has cgroup v2")
    with pytest.raises(exception.VolumeAttachFailed, match="cgroup v2; stop the"):
        volumes.attach(info, server, "/dev/vdb")
    client.stop_container(name_of(server), 0)
    volumes.attach(info, server, "/dev/vdb")
    client.start_container(name_of(server))
    with pytest.raises(exception.DeviceDetachFailed, match="cgroup v2; stop the"):
        volumes.detach(info, server, "/dev/vdb")
    client.stop_container(name_of(server), 0)
    volumes.detach(info, server, "/dev/vdb")
    assert not devices.has_any(name_of(server))


def test_a_server_in_gvisor_has_no_volumes(volumes, make_server, connector):
    with pytest.raises(exception.InvalidInput, match="gVisor"):
        volumes.attach(volume(), make_server(isolation.GVISOR), "/dev/vdb")
    assert connector.calls == []


def test_a_volume_that_was_never_attached_can_be_detached(volumes, server, connector):
    volumes.detach({}, server, "/dev/vdb")
    volumes.detach(volume(), server, "/dev/vdb")
    assert connector.calls == ["disconnect"]


def test_a_volume_of_a_server_without_a_container_can_be_detached(volumes, connector):
    volumes.detach(volume(), samples.instance(), "/dev/vdb")
    assert connector.calls == ["disconnect"]


def test_the_host_stays_connected_until_the_last_server_has_lost_a_volume(
    volumes, make_server, connector
):
    info = volume()
    servers = make_server(), make_server()
    for server in servers:
        volumes.attach(info, server, "/dev/vdb")
    volumes.detach(info, servers[0], "/dev/vdb")
    assert connector.connected == [info["data"]]
    volumes.detach(info, servers[1], "/dev/vdb")
    assert connector.connected == []


def test_a_boot_that_fails_leaves_no_volume(volumes, devices, connector):
    instance = samples.instance()
    boot = volumes.connected(instance, mapping(volume()), volume_mode.DEVICE)
    with pytest.raises(RuntimeError, match="vdb"), boot:
        raise RuntimeError(devices.recorded(name_of(instance)))
    assert not devices.has_any(name_of(instance))
    assert connector.connected == []


def test_a_second_boot_leaves_the_volumes_of_the_first(volumes, stopped, devices):
    bdi = mapping(volume())
    volumes.restore(stopped, bdi)
    boot = volumes.connected(stopped, bdi, volume_mode.DEVICE)
    with pytest.raises(exception.InstanceExists), boot:
        raise exception.InstanceExists(name="x")
    assert devices.recorded(name_of(stopped)) == {"vdb": NUMBER}


def test_a_server_that_starts_has_exactly_the_volumes_that_nova_says(
    volumes, make_volumes, stopped, devices
):
    for mountpoint in "/dev/vdb", "/dev/vdd":
        volumes.attach(volume(mountpoint), stopped, mountpoint)
    volumes.restore(stopped, None)
    assert devices.recorded(name_of(stopped)).keys() == {"vdb", "vdd"}
    # nova-compute was killed while it detached one.
    volumes = make_volumes()
    volumes.restore(stopped, mapping(volume("a"), volume("b")))
    assert devices.recorded(name_of(stopped)).keys() == {"vdb", "vdc"}
    volumes.restore(stopped, mapping())
    assert not volumes.has_any(stopped)


def test_a_start_does_not_undo_what_nova_did_meanwhile(
    volumes, stopped, devices, connector
):
    """Nova takes no lock when it starts a server."""
    old, new = volume("old"), volume("new")
    volumes.attach(old, stopped, "/dev/vdb")
    before = mapping(old)
    volumes.detach(old, stopped, "/dev/vdb")
    volumes.attach(new, stopped, "/dev/vdc")
    volumes.restore(stopped, before)
    assert devices.recorded(name_of(stopped)).keys() == {"vdc"}
    assert connector.connected == [new["data"]]


def test_a_volume_that_is_detached_for_a_rebuild_is_there_afterwards(
    volumes, stopped, devices
):
    info = volume()
    volumes.attach(info, stopped, "/dev/vdb")
    volumes.detach(info, stopped, "/dev/vdb")
    with volumes.connected(stopped, mapping(info), volume_mode.DEVICE):
        pass
    volumes.restore(stopped, mapping(info))
    assert devices.recorded(name_of(stopped)) == {"vdb": NUMBER}


def test_a_server_that_runs_keeps_what_it_has(volumes, server, connector):
    volumes.restore(server, mapping(volume()))
    assert connector.calls == []


def test_a_deleted_server_has_no_volumes(volumes, stopped, client, devices, connector):
    info = volume()
    volumes.attach(info, stopped, "/dev/vdb")
    with pytest.raises(exception.InstanceTerminationFailure, match="stay connected"):
        volumes.release(stopped, mapping(info))
    client.remove_container(name_of(stopped))
    volumes.release(stopped, mapping(info))
    assert not devices.has_any(name_of(stopped))
    assert connector.connected == []


def test_a_volume_that_cannot_be_disconnected_does_not_keep_a_server(
    volumes, devices, monkeypatch, caplog
):
    instance = samples.instance()
    devices.records[name_of(instance)] = {"vdb": NUMBER}

    def fail(*args):
        raise RuntimeError("timeout")

    monkeypatch.setattr(connections, "disconnect", fail)
    volumes.release(instance, mapping(volume()))
    assert not devices.has_any(name_of(instance))
    assert "Failed to disconnect volume volume-1" in caplog.text


def is_running(client, instance):
    return client.inspect_container(name_of(instance))["State"]["Running"]


def test_a_resize_that_fails_leaves_a_server_as_it_was(
    volumes, server, client, devices
):
    bdi = mapping(volume())
    volumes.attach(volume(), server, "/dev/vdb")
    resize = volumes.withdrawn(server, None, bdi, 0)
    with pytest.raises(RuntimeError, match="stopped without"), resize:
        raise RuntimeError(
            f"{'runs' if is_running(client, server) else 'stopped'} "
            f"{'with' if devices.has_any(name_of(server)) else 'without'}"
        )
    assert is_running(client, server)
    assert devices.recorded(name_of(server)) == {"vdb": NUMBER}


def test_a_resize_does_not_stop_a_server_without_volumes(volumes, server, client):
    with volumes.withdrawn(server, None, mapping(), 0):
        assert is_running(client, server)


def test_a_running_server_gets_a_volume_with_the_limits_of_its_flavor(
    volumes, server, devices
):
    server.flavor = samples.flavor(extra_specs={"quota:disk_read_iops_sec": "7"})
    volumes.attach(volume(), server, "/dev/vdb")
    assert devices.limits == {"BlkioDeviceReadIOps": 7}


def test_a_swap_copies_and_disconnects_the_old_volume(
    volumes, server, devices, connector
):
    old, new = volume("old"), volume("new")
    volumes.attach(old, server, "/dev/vdb")
    devices.owners = lambda number: []  # both are the same device here
    volumes.swap(old, new, server, "/dev/vdb")
    assert devices.copies == [(fake_volumes.DEVICE, fake_volumes.DEVICE)]
    assert connector.connected == [new["data"]]
    assert devices.inside == [(name_of(server), "vdb", NUMBER)]


def test_a_swap_is_not_undone_if_the_old_volume_stays_connected(
    volumes, server, devices, connector, caplog
):
    old, new = volume("old"), volume("new")
    volumes.attach(old, server, "/dev/vdb")
    devices.owners = lambda number: []

    def fail(*args, **how):
        raise brick_exception.BrickException("busy")

    connector.disconnect_volume = fail
    volumes.swap(old, new, server, "/dev/vdb")
    assert "Failed to disconnect volume" in caplog.text
    assert new["data"] in connector.connected


def test_a_swap_of_what_a_server_does_not_have_is_refused(volumes, server, connector):
    with pytest.raises(exception.DiskNotFound):
        volumes.swap(volume("old"), volume("new"), server, "/dev/vdb")
    assert connector.calls == []


def test_a_swap_of_a_volume_in_use_is_refused(volumes, server, devices):
    old = volume("old")
    volumes.attach(old, server, "/dev/vdb")
    devices.open.add(NUMBER)
    with pytest.raises(exception.DeviceDetachFailed):
        volumes.swap(old, volume("new"), server, "/dev/vdb")
    assert devices.copies == []
    assert devices.inside == [(name_of(server), "vdb", NUMBER)]


def test_nova_keeps_what_is_needed_to_disconnect(volumes, stopped):
    bdi = mapping(volume())
    volumes.restore(stopped, bdi)
    [found] = bdi["block_device_mapping"]
    assert found.saved["device_path"] == fake_volumes.DEVICE


EPHEMERAL = {"ephemerals": [{"device_name": "/dev/vdd", "size": 1}]}


@pytest.fixture
def files(monkeypatch, tmp_path, devices):
    """Returns the file of a server's ephemeral disk."""

    class Loops:
        def attach(self, path):
            return fake_volumes.DEVICE

        def detach(self, path):
            pass

    monkeypatch.setattr(ephemerals, "devices", devices)
    monkeypatch.setattr(ephemerals, "loops", Loops())
    monkeypatch.setattr(processutils, "execute", lambda *words: None)
    monkeypatch.setattr(ephemerals, "_mkfs", lambda file_system: "mkfs")
    connections.CONF.set_override("state_path", str(tmp_path))
    yield lambda instance: pathlib.Path(
        tmp_path, "docker-ephemeral-disks", instance.uuid, "vdd"
    )
    connections.CONF.clear_override("state_path")


def booted(volumes, make_server, bdi=EPHEMERAL):
    """Return a server, stopped, which has disks since its boot."""
    instance = make_server(running=False)
    volumes._client.remove_container(name_of(instance))
    with volumes.connected(instance, bdi, volume_mode.DEVICE):
        labels = {**naming.labels(instance), isolation.LABEL: isolation.USER}
        volumes._client.create_container(
            name_of(instance), {"Image": "busybox:latest", "Labels": labels}
        )
    return instance


def test_a_new_server_has_its_ephemeral_disk(volumes, make_server, files, devices):
    instance = booted(volumes, make_server)
    assert files(instance).stat().st_size == 1 << 30
    assert devices.recorded(name_of(instance)) == {"vdd": NUMBER}
    assert volumes.has_any(instance)


def test_a_boot_that_fails_leaves_no_ephemeral_disk(volumes, files, devices):
    instance = samples.instance()
    boot = volumes.connected(instance, EPHEMERAL, volume_mode.DEVICE)
    with pytest.raises(RuntimeError, match="True"), boot:
        raise RuntimeError(files(instance).exists())
    assert not files(instance).parent.exists()
    assert not volumes.has_any(instance)


def test_a_second_boot_leaves_the_ephemeral_disk_of_the_first(
    volumes, make_server, files, devices
):
    instance = booted(volumes, make_server)
    files(instance).write_bytes(b"kept")
    boot = volumes.connected(instance, EPHEMERAL, volume_mode.DEVICE)
    with pytest.raises(exception.InstanceExists), boot:
        pass
    assert files(instance).read_bytes() == b"kept"
    assert devices.recorded(name_of(instance)) == {"vdd": NUMBER}


@pytest.mark.parametrize("bdi", [EPHEMERAL, None, mapping()])
def test_an_ephemeral_disk_is_there_after_a_restart_of_the_host(
    volumes, make_server, files, devices, bdi
):
    instance = booted(volumes, make_server)
    devices.records.clear()
    volumes.restore(instance, bdi)
    assert devices.recorded(name_of(instance)) == {"vdd": NUMBER}


def test_a_server_without_its_ephemeral_disk_does_not_start(
    volumes, make_server, files
):
    instance = booted(volumes, make_server)
    files(instance).unlink()
    with pytest.raises(exception.DiskNotFound):
        volumes.restore(instance, EPHEMERAL)


def test_a_resize_keeps_the_ephemeral_disk(volumes, make_server, files, devices):
    bdi = mapping(volume()) | EPHEMERAL
    instance = booted(volumes, make_server, bdi)
    files(instance).write_bytes(b"kept")
    volumes.withdraw(instance, bdi, 0)
    assert devices.recorded(name_of(instance)) == {"vdd": NUMBER}
    volumes.restore(instance, bdi)
    assert devices.recorded(name_of(instance)) == {"vdb": NUMBER, "vdd": NUMBER}
    assert files(instance).read_bytes() == b"kept"


def test_a_deleted_server_has_no_ephemeral_disk(
    volumes, make_server, client, files, devices
):
    instance = booted(volumes, make_server)
    with pytest.raises(exception.InstanceTerminationFailure, match="stay connected"):
        volumes.release(instance, None)
    assert files(instance).exists()
    client.remove_container(name_of(instance))
    volumes.release(instance, None)
    assert not files(instance).parent.exists()
    assert not volumes.has_any(instance)
