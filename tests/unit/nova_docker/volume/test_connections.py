# SPDX-License-Identifier: Apache-2.0
"""Connections to volumes, with fakes of os-brick's connectors."""

from __future__ import annotations

import pytest
from nova import exception
from os_brick import exception as brick_exception

from nova_docker import conf
from nova_docker.volume import connections
from tests.unit.nova_docker import fake_volumes

conf.register_opts(connections.CONF)

ISCSI = {
    "driver_volume_type": "iscsi",
    "data": {
        "target_portal": "192.0.2.1:3260",
        "target_iqn": "iqn.2010-10.org.openstack:volume-1",
        "target_lun": 1,
        "access_mode": "rw",
    },
}
FIBRE_CHANNEL = {
    "driver_volume_type": "fibre_channel",
    "data": {"target_wwn": ["500507680210886a"], "target_lun": 1},
}
RBD = {
    "driver_volume_type": "rbd",
    "data": {"name": "volumes/volume-1", "hosts": ["192.0.2.1"], "ports": ["6789"]},
}
NFS = {
    "driver_volume_type": "nfs",
    "data": {"export": "192.0.2.1:/share", "name": "volume-1", "format": "raw"},
}


def info(like):
    return {"serial": "volume-1", **like, "data": dict(like["data"])}


@pytest.mark.parametrize(
    "like",
    [ISCSI, FIBRE_CHANNEL, RBD, NFS],
    ids=lambda like: like["driver_volume_type"],
)
def test_a_volume_is_connected_by_the_connector_of_its_protocol(connector, like):
    connection_info = info(like)
    for _ in range(2):
        assert connections.connect(connection_info) == fake_volumes.DEVICE
    protocol, arguments = connector.made[0]
    assert protocol == like["driver_volume_type"]
    # RBD is a device of the kernel, and shares are mounted below a directory.
    assert arguments["do_local_attach"]
    assert arguments["conn"]["mount_point_base"].endswith("/mnt")
    assert len(connector.connected) == 1
    assert connections.number(connection_info) == fake_volumes.number_of("/dev/null")
    connections.disconnect(connection_info)
    assert connector.connected == []


def test_what_is_needed_to_disconnect_is_kept(connector):
    connector.more = {"multipath_id": "mpath-1"}
    connection_info = info(ISCSI)
    connections.connect(connection_info)
    assert connection_info["data"]["device_path"] == fake_volumes.DEVICE
    assert connection_info["data"]["multipath_id"] == "mpath-1"


def test_a_connection_that_fails_is_not_undone(connector):
    connector.error = brick_exception.VolumeDeviceNotFound(device="x")
    with pytest.raises(brick_exception.VolumeDeviceNotFound):
        connections.connect(info(ISCSI))
    # os-brick undoes its own steps.
    assert connector.calls == ["connect"]


def test_a_volume_that_is_disconnected_already_is_no_failure(connector, monkeypatch):
    def disconnect(*args, **how):
        raise brick_exception.VolumeDeviceNotFound(device="x")

    monkeypatch.setattr(connector, "disconnect_volume", disconnect)
    connections.disconnect(info(ISCSI))


def test_an_attachment_that_failed_early_needs_no_disconnection(connector):
    connections.disconnect({})
    assert connector.calls == []


@pytest.fixture
def file(tmp_path, connector):
    path = tmp_path / "volume-1"
    path.write_bytes(b"")
    connector.path = str(path)
    return str(path)


@pytest.fixture
def loops(mocker):
    fake = mocker.patch.object(connections, "loops")
    fake.attach.return_value = fake.of.return_value = "/dev/null"
    return fake


@pytest.mark.parametrize(("mode", "read_only"), [("rw", False), ("ro", True)])
def test_a_file_gets_a_loop_device(connector, file, loops, mode, read_only):
    connection_info = info(NFS)
    connection_info["data"]["access_mode"] = mode
    assert connections.connect(connection_info) == "/dev/null"
    loops.attach.assert_called_once_with(file, read_only=read_only)
    connections.extend(connection_info)
    loops.refresh.assert_called_once_with(file)
    assert connections.number(connection_info) == "1:3"
    connections.disconnect(connection_info)
    loops.detach.assert_called_once_with(file)
    assert connector.connected == []


def test_a_file_in_another_format_is_refused_and_disconnected(connector, file, loops):
    connection_info = info(NFS)
    connection_info["data"]["format"] = "qcow2"
    with pytest.raises(exception.VolumeAttachFailed, match="format qcow2"):
        connections.connect(connection_info)
    loops.attach.assert_not_called()
    assert connector.connected == []


def test_the_new_size_of_a_volume_is_os_bricks(connector):
    connection_info = info(ISCSI)
    connections.connect(connection_info)
    connections.extend(connection_info)
    assert connector.calls[-1] == "extend"
    connector.size = None
    with pytest.raises(exception.VolumeExtendFailed, match="volume-1"):
        connections.extend(connection_info)


def test_an_encrypted_volume_is_refused(connector):
    connection_info = info(ISCSI)
    connection_info["data"]["encrypted"] = True
    with pytest.raises(exception.VolumeAttachFailed, match="encrypted"):
        connections.connect(connection_info)
    assert connector.calls == []
