# SPDX-License-Identifier: Apache-2.0
"""The tags of a server's devices, in its metadata."""

from __future__ import annotations

import stat

import pytest
from nova import conf as nova_conf
from nova import objects

from nova_docker import config_drive
from tests import samples

CONF = nova_conf.CONF


@pytest.fixture
def recorded(monkeypatch):
    """Sets what Nova's database has of a server: ports and block devices."""

    def of(vifs, bdms):
        for kind, found in ("VirtualInterface", vifs), ("BlockDeviceMapping", bdms):
            monkeypatch.setattr(
                f"nova.objects.{kind}List.get_by_instance_uuid",
                lambda *args, found=found: found,
            )

    return of


def disk(name, tag, destination="volume"):
    return objects.BlockDeviceMapping(
        device_name=name,
        volume_id=samples.uuid(),
        tag=tag,
        destination_type=destination,
    )


def test_ports_and_volumes_have_their_tags(recorded):
    root = disk("/dev/vda", "root", "local")
    tagged, plain = disk("/dev/vdb", "data"), disk("/dev/vdc", None)
    vif = objects.VirtualInterface(address="fa:16:3e:00:00:01", tag="public")
    recorded([vif], [root, tagged, plain])
    found = config_drive.device_metadata(None, samples.instance())
    [nic, volume] = found.devices
    assert (nic.mac, nic.tags) == ("fa:16:3e:00:00:01", ["public"])
    assert (volume.path, volume.serial, volume.tags) == (
        "/dev/vdb",
        tagged.volume_id,
        ["data"],
    )


def test_a_server_without_tags_has_no_devices_in_its_metadata(recorded):
    recorded([], [disk("/dev/vdb", None)])
    assert config_drive.device_metadata(None, samples.instance()) is None


@pytest.fixture
def state(tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    yield tmp_path
    CONF.clear_override("state_path")


def test_a_config_drive_is_read_and_written_as_it_was(state):
    files = {
        "openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web-1"}',
        "openstack/content/0000": b"\0\xff",
    }
    instance, other = samples.instance(), samples.instance()
    mounts = config_drive.write_files(instance, files)
    found = config_drive.read(instance.uuid)
    assert found == files
    assert len(config_drive.write_files(other, found)) == len(mounts) == 2
    assert config_drive.read(other.uuid) == files
    directories = list(state.glob("docker-config-drives/*/*"))
    assert len(directories) == 4
    assert {stat.S_IMODE(path.stat().st_mode) for path in directories} == {0}


def test_a_server_without_a_config_drive_has_nothing_to_read(state):
    assert config_drive.read(samples.uuid()) is None
