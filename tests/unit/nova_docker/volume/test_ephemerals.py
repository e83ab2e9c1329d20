# SPDX-License-Identifier: Apache-2.0
"""The files of ephemeral disks, with fakes of loop devices and of mkfs."""

from __future__ import annotations

import os
import pathlib

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from oslo_concurrency import processutils

from nova_docker.container import naming
from nova_docker.volume import ephemerals
from nova_docker.volume import mode
from nova_docker.volume.disks import Ephemeral
from tests import samples
from tests.unit.nova_docker import fake_volumes

CONF = nova_conf.CONF

MODE = mode.BlockDevices(lambda: None)
DISK = Ephemeral("vdb", 1 << 20, "ext4", "ephemeral0")
OTHER = Ephemeral("vdc", 2 << 20, "vfat", "ephemeral1")


class Loops:
    """Loop devices of files."""

    def __init__(self):
        self.files = set()
        self.error = None

    def attach(self, path, *, read_only=False):
        assert os.path.isfile(path)
        self.files.add(path)
        return fake_volumes.DEVICE

    def detach(self, path):
        if self.error:
            raise self.error
        self.files.discard(path)


@pytest.fixture(autouse=True)
def state(tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    yield tmp_path / "docker-ephemeral-disks"
    CONF.clear_override("state_path")


@pytest.fixture(autouse=True)
def loops(monkeypatch):
    fake = Loops()
    monkeypatch.setattr(ephemerals, "loops", fake)
    return fake


@pytest.fixture(autouse=True)
def devices(monkeypatch):
    fake = fake_volumes.Devices()
    for module in ephemerals, mode:
        monkeypatch.setattr(module, "devices", fake)
    return fake


@pytest.fixture(autouse=True)
def programs(monkeypatch):
    """The programs that were called; the host has all of them."""
    calls = []
    monkeypatch.setattr(processutils, "execute", lambda *words: calls.append(words))
    monkeypatch.setattr("shutil.which", lambda name, path: f"/sbin/{name}")
    return calls


@pytest.fixture
def uuid():
    return samples.uuid()


def contents(state):
    return sorted(str(path.relative_to(state)) for path in state.rglob("*"))


def test_a_new_disk_is_a_sparse_file_that_only_nova_can_read(state, uuid, programs):
    ephemerals.make(uuid, [DISK, OTHER])
    for disk in DISK, OTHER:
        found = (state / uuid / disk.device).stat()
        assert (found.st_size, found.st_blocks) == (disk.size, 0)
        assert found.st_mode & 0o777 == 0o600
    assert state.stat().st_mode & 0o777 == 0o700
    assert [(call[0], call[-2]) for call in programs] == [
        ("/sbin/mkfs.ext4", "ephemeral0"),
        ("/sbin/mkfs.vfat", "ephemeral1"),
    ]


def test_a_disk_takes_its_space_at_once_if_nova_is_told_so(state, uuid):
    CONF.set_override("preallocate_images", "space")
    try:
        ephemerals.make(uuid, [DISK])
    finally:
        CONF.clear_override("preallocate_images")
    assert (state / uuid / "vdb").stat().st_blocks * 512 >= DISK.size


def test_what_an_earlier_boot_has_left_is_not_used(state, uuid, loops, devices):
    ephemerals.make(uuid, [DISK, OTHER])
    ephemerals.connect(uuid, MODE)
    (state / uuid / "vdb").write_bytes(b"secret")
    ephemerals.make(uuid, [DISK])
    assert contents(state) == [uuid, f"{uuid}/vdb"]
    assert (state / uuid / "vdb").read_bytes() == bytes(DISK.size)
    assert not loops.files
    assert not devices.has_any(naming.name_of(uuid))


def test_a_disk_that_cannot_be_formatted_is_not_a_disk(state, uuid, monkeypatch):
    def fail(*words):
        raise processutils.ProcessExecutionError(stderr="No space left\n")

    monkeypatch.setattr(processutils, "execute", fail)
    with pytest.raises(exception.InstanceDeployFailure, match="No space left"):
        ephemerals.make(uuid, [DISK])
    assert ephemerals.names(uuid) == []
    assert ephemerals.has_any(uuid)
    ephemerals.remove(uuid)
    assert contents(state) == []


def test_a_disk_that_the_host_could_not_fill_is_refused(state, uuid):
    huge = DISK._replace(size=1 << 60)
    with pytest.raises(exception.InstanceDeployFailure, match="1073741824 GiB do not"):
        ephemerals.make(uuid, [huge])
    assert contents(state) == []


def test_a_format_without_a_program_is_refused(monkeypatch):
    ephemerals.refuse([DISK, OTHER])
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(exception.InvalidInput, match=r"lacks the program mkfs\.ext4"):
        ephemerals.refuse([DISK])


def test_a_server_has_its_disks_at_each_start(state, uuid, loops, devices):
    ephemerals.make(uuid, [DISK, OTHER])
    for _ in range(2):
        ephemerals.connect(uuid, MODE, [DISK, OTHER])
        found = devices.recorded(naming.name_of(uuid))
        assert found.keys() == {"vdb", "vdc"}
        assert loops.files == {str(state / uuid / name) for name in found}


def test_a_server_whose_disk_is_missing_does_not_start(state, uuid):
    ephemerals.make(uuid, [DISK])
    with pytest.raises(exception.DiskNotFound, match=f"{uuid}/vdc"):
        ephemerals.connect(uuid, MODE, [DISK, OTHER])


def test_a_server_without_disks_has_none(state, uuid):
    ephemerals.connect(uuid, MODE)
    ephemerals.remove(uuid)
    assert not ephemerals.has_any(uuid)
    assert not state.exists()


def test_a_disk_stays_as_long_as_its_device(state, uuid, loops):
    """Without the file, nothing could find the device."""
    ephemerals.make(uuid, [DISK])
    ephemerals.connect(uuid, MODE)
    loops.error = OSError("busy")
    with pytest.raises(OSError, match="busy"):
        ephemerals.remove(uuid)
    assert ephemerals.names(uuid) == ["vdb"]
    loops.error = None
    ephemerals.remove(uuid)
    assert contents(state) == []
    assert not loops.files


@pytest.fixture
def recorded(monkeypatch):
    """The hosts of the servers that Nova has."""
    hosts = {}

    def get(context, uuid, **more):
        if uuid not in hosts:
            raise exception.InstanceNotFound(instance_id=uuid)
        return objects.Instance(uuid=uuid, host=hosts[uuid])

    monkeypatch.setattr(objects.Instance, "get_by_uuid", get)
    return hosts


def test_a_sweep_removes_the_disks_of_deleted_servers_only(state, recorded):
    """Those of servers whose containers are missing may be all that is left of them."""
    present, known, elsewhere, gone = [samples.uuid() for _ in range(4)]
    for uuid in present, known, elsewhere, gone:
        ephemerals.make(uuid, [DISK])
        ephemerals.connect(uuid, MODE)
    (state / "lost+found").mkdir()
    recorded |= {known: CONF.host, elsewhere: "another"}
    ephemerals.sweep([present])
    assert {path.name for path in state.iterdir()} == {present, known, "lost+found"}


def test_a_disk_that_cannot_be_removed_does_not_stop_a_sweep(
    state, uuid, recorded, loops, caplog
):
    ephemerals.make(uuid, [DISK])
    loops.error = OSError("busy")
    ephemerals.sweep([])
    assert f"{uuid}: busy" in caplog.text
    assert ephemerals.names(uuid) == ["vdb"]


def test_the_first_sweep_finds_nothing(state):
    ephemerals.sweep([])
    assert not pathlib.Path(state).exists()
