# SPDX-License-Identifier: Apache-2.0
"""Suspend and resume: to disk if possible, otherwise in memory."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest
from nova import conf as nova_conf
from nova import exception

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.checkpoint import Checkpoints
from nova_docker.container import naming
from nova_docker.nics import Nics
from nova_docker.power import Power
from tests import archives
from tests import samples

CONF = nova_conf.CONF


class Suspending:
    """A running server, and a host that suspends it."""

    def __init__(self):
        self.client = MockDockerClient()
        self.client.load_image([archives.busybox_archive(tags=["image"])])
        self.host = SimpleNamespace(checkpoints=True, saves_memory=True)
        self.nics = mock.create_autospec(Nics, instance=True)
        power = Power(self.client, self.nics, lambda *args: {})
        self.checkpoints = Checkpoints(self.client, self.host, self.nics, power)
        self.instance = samples.instance()
        self.name = naming.name_of(self.instance.uuid)
        self.client.create_container(self.name, {"Image": "image", "Labels": {}})
        self.client.start_container(self.name)

    def suspend(self):
        self.checkpoints.suspend(self.instance)

    def resume(self):
        return self.checkpoints.resume(self.instance, samples.nics())

    @property
    def status(self):
        return self.client.inspect_container(self.name)["State"]["Status"]

    @property
    def saved(self):
        return self.client.list_checkpoints(self.name)


@pytest.fixture
def server(tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    yield Suspending()
    CONF.clear_override("state_path")


def test_a_server_is_suspended_to_disk_and_disconnected(server):
    server.suspend()
    assert server.status == "exited"
    assert len(server.saved) == 1
    server.nics.cut.assert_called_once_with(server.instance)


def test_a_server_is_restored_with_its_nics(server):
    server.suspend()
    assert server.resume()
    assert server.status == "running"
    assert server.saved == []
    server.nics.plug.assert_called_once_with(
        server.instance, samples.nics(), level="shared"
    )


def test_a_server_is_frozen_if_the_host_cannot_write_checkpoints(server):
    server.host.saves_memory = False
    server.suspend()
    assert server.status == "paused"
    assert server.saved == []
    server.nics.cut.assert_called_once_with(server.instance)
    assert server.resume()
    assert server.status == "running"
    server.nics.reconnect.assert_called_once_with(server.instance)


def test_a_server_is_frozen_if_its_checkpoint_fails(server, caplog):
    server.client.fail_next("create_checkpoint", errors.for_status(500, "criu failed"))
    server.suspend()
    assert server.status == "paused"
    server.nics.cut.assert_called_once_with(server.instance)
    assert "Checkpoint failed; the server stays frozen in memory" in caplog.text
    assert "criu failed" in caplog.text


def test_a_server_that_is_saved_by_a_call_that_fails_is_suspended(server, monkeypatch):
    save = server.client.create_checkpoint

    def save_and_fail(*arguments):
        save(*arguments)
        raise errors.Timeout("the engine did not answer in time")

    monkeypatch.setattr(server.client, "create_checkpoint", save_and_fail)
    server.suspend()
    assert server.status == "exited"
    server.nics.cut.assert_called_once_with(server.instance)
    assert server.resume()
    assert server.status == "running"


def test_a_server_that_is_on_disk_stays_there_if_it_is_suspended_again(server):
    server.suspend()
    server.suspend()
    assert len(server.saved) == 1
    assert server.resume()
    assert server.status == "running"


def test_a_server_that_cannot_be_restored_stays_suspended(server):
    server.suspend()
    server.client.fail_next("start_container", errors.for_status(500, "criu failed"))
    with pytest.raises(exception.InstanceFaultRollback, match="criu failed"):
        server.resume()
    assert server.status == "exited"
    assert len(server.saved) == 1
    # It was connected for the attempt.
    assert server.nics.method_calls[-1] == mock.call.cut(server.instance)
    assert server.resume()


def test_a_restore_is_repeated_while_the_engine_keeps_its_own_copy(server, mocker):
    mocker.patch("time.sleep")
    server.suspend()
    for _ in range(3):
        server.client.fail_next(
            "start_container", errors.for_status(500, "checkpoint already exists")
        )
    assert server.resume()
    assert server.status == "running"


def test_memory_that_a_host_restart_has_lost_is_reported(server):
    server.host.saves_memory = False
    server.suspend()
    server.client.exit(server.name)
    assert not server.resume()
    assert server.status == "exited"


def test_an_old_checkpoint_is_replaced(server):
    server.suspend()
    server.client.start_container(server.name)
    server.client.fail_next("create_checkpoint", errors.for_status(500, "criu failed"))
    server.suspend()
    assert server.status == "paused"
    assert server.saved == []


def test_discard_removes_the_checkpoint_once(server):
    server.suspend()
    for _ in range(2):
        server.checkpoints.discard(server.instance)
        assert server.saved == []


def test_an_engine_without_checkpoints_is_not_asked_for_any(server):
    server.host.checkpoints = server.host.saves_memory = False
    server.client.fail_next("list_checkpoints", errors.for_status(404, "not found"))
    server.suspend()
    assert server.resume()
    server.checkpoints.discard(server.instance)


def test_a_stopped_server_cannot_be_suspended(server):
    server.host.saves_memory = False
    server.client.exit(server.name)
    with pytest.raises(exception.InstanceNotRunning):
        server.suspend()
