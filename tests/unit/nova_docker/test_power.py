# SPDX-License-Identifier: Apache-2.0
"""Power: servers are connected while they run, and thawed after a snapshot."""

from __future__ import annotations

import threading
from unittest import mock

import pytest
from nova import conf as nova_conf
from nova import exception

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import frozen
from nova_docker import power as module
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.nics import Nics
from nova_docker.power import Power
from tests import archives
from tests import samples

CONF = nova_conf.CONF
GVISOR = isolation.GVISOR
FAILED = errors.for_status(500, "engine failed")


class Server:
    """A running server, and whether it is connected."""

    def __init__(self):
        self.client = MockDockerClient()
        self.client.load_image([archives.busybox_archive(tags=["image"])])
        self.nics = mock.create_autospec(Nics, instance=True)
        self.nics.cut.side_effect = lambda instance: self._connect(False)
        self.nics.reconnect.side_effect = lambda instance: self._connect(True)
        self.nics.plug.side_effect = self._plug
        self.connected, self.renewed = True, None
        self.limits = {"PidsLimit": 1000, "Memory": 2**30}
        self.power = Power(self.client, self.nics, self._limits_of)
        self.instance = samples.instance()
        self.name = naming.name_of(self.instance.uuid)
        self.client.create_container(self.name, {"Image": "image", "Labels": {}})
        self.client.start_container(self.name)

    def _limits_of(self, flavor, level, topology):
        return {**self.limits, "PidsLimit": 256} if level == GVISOR else self.limits

    def _connect(self, connected):
        self.connected = connected

    def _plug(self, instance, vifs, *, level, connected=True, renew=False):
        self.connected = connected
        self.renewed = renew

    @property
    def status(self):
        return self.client.inspect_container(self.name)["State"]["Status"]


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    CONF.set_override("state_path", str(tmp_path / "nova"))
    yield Server()
    CONF.clear_override("state_path")


def test_a_frozen_server_is_disconnected_until_it_is_thawed(server):
    for _ in range(2):
        server.power.freeze(server.instance)
        assert (server.status, server.connected) == ("paused", False)
    for _ in range(2):
        server.power.thaw(server.instance)
        assert (server.status, server.connected) == ("running", True)


def test_a_server_is_connected_before_it_continues(server):
    server.power.freeze(server.instance)
    server.client.fail_next("unpause_container", FAILED)
    server.nics.reset_mock()
    with pytest.raises(exception.NovaException, match="engine failed"):
        server.power.thaw(server.instance)
    calls = [mock.call.reconnect(server.instance), mock.call.cut(server.instance)]
    assert server.nics.method_calls == calls
    assert (server.status, server.connected) == ("paused", False)


def test_a_server_that_cannot_be_disconnected_is_not_frozen(server):
    server.nics.cut.side_effect = OSError("netlink failed")
    with pytest.raises(OSError, match="netlink failed"):
        server.power.freeze(server.instance)
    assert (server.status, server.connected) == ("running", True)


def test_a_freeze_that_the_engine_carries_out_but_denies_is_reverted(server):
    pause = server.client.pause_container

    def act_and_fail(ref):
        pause(ref)
        raise errors.Timeout("too late")

    server.client.pause_container = act_and_fail
    with pytest.raises(exception.NovaException, match="too late"):
        server.power.freeze(server.instance)
    assert (server.status, server.connected) == ("running", True)


def test_a_stopped_server_stays_disconnected(server):
    server.power.stop(server.instance, 0)
    assert not server.connected
    for verb in (server.power.freeze, server.power.thaw):
        with pytest.raises(exception.InstanceNotRunning):
            verb(server.instance)
        assert (server.status, server.connected) == ("exited", False)


def test_a_server_without_a_container_counts_as_stopped(server):
    server.client.remove_container(server.name)
    server.power.stop(server.instance, 1)
    assert not server.connected


def test_a_server_that_does_not_start_is_disconnected(server):
    server.power.stop(server.instance, 0)
    server.client.fail_next("start_container", FAILED)
    with pytest.raises(exception.InstancePowerOnFailure):
        server.power.start(server.instance, [])
    assert not server.connected
    server.power.start(server.instance, [])
    assert (server.status, server.connected) == ("running", True)


def test_the_network_of_a_server_is_made_anew_unless_it_runs(server):
    server.power.start(server.instance, [])
    assert not server.renewed
    server.power.stop(server.instance, 0)
    server.power.start(server.instance, [])
    assert server.renewed


def test_a_running_server_stays_connected_when_its_start_fails(server):
    server.client.fail_next("inspect_container", FAILED)
    with pytest.raises(exception.NovaException, match="engine failed"):
        server.power.start(server.instance, [])
    assert (server.status, server.connected) == ("running", True)


@pytest.mark.parametrize(
    ("state", "connected"), [("running", True), ("paused", False), ("exited", False)]
)
def test_plugging_respects_the_state_of_the_server(server, state, connected):
    if state == "paused":
        server.client.pause_container(server.name)
    if state == "exited":
        server.client.stop_container(server.name, 0)
    server.power.plug(server.instance, [])
    assert server.connected == connected


def test_a_server_without_a_container_is_not_connected(server):
    server.client.remove_container(server.name)
    server.power.plug(server.instance, [])
    assert not server.connected


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        (4096, 1000, True),
        (None, 1000, True),
        (-1, 1000, True),
        (1000, 1000, False),
        (500, 500, False),
    ],
)
def test_a_server_of_an_earlier_release_gets_the_limit_of_processes(
    server, before, after, changed
):
    server.client.update_container(server.name, {"PidsLimit": before})
    with server.client.events() as events:
        server.power.plug(server.instance, [])
        server.client.pause_container(server.name)
        actions = [next(iter(events))["Action"] for _ in range(1 + changed)]
    assert actions == ["update", "pause"] if changed else ["pause"]
    config = server.client.inspect_container(server.name)["HostConfig"]
    assert config["PidsLimit"] == after
    assert "Memory" not in config


def test_a_server_of_an_earlier_configuration_gets_its_cpus(server):
    server.client.update_container(server.name, {"PidsLimit": 1000})
    server.limits |= {"CpusetCpus": "0-1", "CpusetMems": "0"}
    server.power.plug(server.instance, [])
    config = server.client.inspect_container(server.name)["HostConfig"]
    assert (config["CpusetCpus"], config["CpusetMems"]) == ("0-1", "0")
    assert "Memory" not in config


@pytest.mark.parametrize("verb", ["plug", "limit"])
def test_a_server_gets_the_limits_of_its_own_level(server, verb):
    """The default level of the host may have changed since the server was created."""
    server.client.remove_container(server.name)
    labels = {isolation.LABEL: GVISOR}
    server.client.create_container(server.name, {"Image": "image", "Labels": labels})
    if verb == "plug":
        server.power.plug(server.instance, [])
    else:
        server.power.limit(server.instance, [], samples.flavor(), 0)
    config = server.client.inspect_container(server.name)["HostConfig"]
    assert config["PidsLimit"] == 256


@pytest.mark.parametrize("method", ["inspect_container", "update_container"])
def test_a_limit_that_cannot_be_set_does_not_keep_nics_from_being_plugged(
    server, method, monkeypatch, caplog
):
    # The state comes from the engine's list if a container does not answer.
    def fail(*arguments, **options):
        raise errors.Timeout("no answer")

    monkeypatch.setattr(server.client, method, fail)
    server.connected = False
    server.power.plug(server.instance, [])
    assert server.connected
    assert "Failed to limit the server's processes" in caplog.text


def test_a_resize_that_is_refused_restores_the_limits_of_the_nics(server, mocker):
    mocker.patch.object(server.client, "container_stats", side_effect=FAILED)
    old, new = server.instance.flavor, samples.flavor(vcpus=2)
    with pytest.raises(exception.NovaException):
        server.power.limit(server.instance, [], new, 0)
    limited = [call.args[2] for call in server.nics.limit.mock_calls]
    assert limited == [new, old]


def test_a_server_is_held_for_the_duration_of_a_snapshot(server):
    with server.power.held(server.instance):
        assert (server.status, server.connected) == ("paused", True)
        assert frozen.marked() == [server.instance.uuid]
        server.power.release()  # another snapshot begins
        assert server.status == "paused"
    assert (server.status, server.connected) == ("running", True)
    assert frozen.marked() == []


@pytest.mark.parametrize("state", ["paused", "exited"])
def test_a_server_that_does_not_run_is_left_as_it_is(server, state):
    if state == "paused":
        server.power.freeze(server.instance)
    else:
        server.power.stop(server.instance, 0)
    with server.power.held(server.instance):
        assert server.status == state
        assert frozen.marked() == []
    assert (server.status, server.connected) == (state, False)


def test_a_server_may_end_or_vanish_while_it_is_held(server):
    with server.power.held(server.instance):
        server.client.exit(server.name)
    assert server.status == "exited"
    server.power.start(server.instance, [])
    with server.power.held(server.instance):
        server.client.remove_container(server.name)
    assert frozen.marked() == []


def test_a_held_server_is_thawed_when_a_snapshot_fails(server):
    with pytest.raises(ValueError, match="failed"), server.power.held(server.instance):
        raise ValueError("failed")
    assert server.status == "running"
    server.client.fail_next("pause_container", FAILED)
    with pytest.raises(exception.NovaException), server.power.held(server.instance):
        pytest.fail("it was not frozen")
    assert server.status == "running"
    server.power.release()
    assert frozen.marked() == []


@pytest.mark.parametrize(
    "error", [errors.Unreachable("away"), errors.for_status(409, "no")]
)
def test_a_server_is_thawed_as_soon_as_the_engine_can(server, error):
    for _ in range(3):
        server.client.fail_next("unpause_container", error)
    with server.power.held(server.instance):
        pass
    assert server.status == "running"


def test_a_server_that_an_interrupted_snapshot_left_frozen_is_thawed(
    server, monkeypatch, caplog
):
    monkeypatch.setattr(module, "_THAW_SECONDS", -1)
    server.client.fail_next("unpause_container", errors.Unreachable("away"))
    with server.power.held(server.instance):
        pass
    assert server.status == "paused"
    assert "stays frozen" in caplog.text
    # As nova-compute does when it starts.
    Power(server.client, server.nics, lambda *args: {}).release()
    assert server.status == "running"
    assert frozen.marked() == []


def test_a_server_that_the_engine_freezes_too_late_is_thawed(server, monkeypatch):
    def fail(name):
        raise errors.Timeout("the engine did not answer in time")

    with monkeypatch.context() as patched:
        patched.setattr(server.client, "pause_container", fail)
        with pytest.raises(exception.NovaException), server.power.held(server.instance):
            pass
    server.client.pause_container(server.name)
    server.power.release()
    assert server.status == "running"
    assert frozen.marked() == []


def test_a_server_that_its_user_paused_is_never_thawed(server, monkeypatch):
    monkeypatch.setattr(module, "_THAW_SECONDS", -1)
    server.client.fail_next("unpause_container", errors.Unreachable("away"))
    with server.power.held(server.instance):
        pass
    server.power.freeze(server.instance)
    server.power.release()
    assert (server.status, server.connected) == ("paused", False)


@pytest.fixture
def left_frozen(server, monkeypatch):
    """A server that an interrupted snapshot has left frozen."""
    monkeypatch.setattr(module, "_THAW_SECONDS", -1)
    server.client.fail_next("unpause_container", errors.Unreachable("away"))
    with server.power.held(server.instance):
        pass
    assert server.status == "paused"
    return server


def test_a_server_that_does_not_answer_delays_the_others_for_a_short_time(
    left_frozen, monkeypatch
):
    silent = "00000000-0000-0000-0000-000000000000"
    frozen.mark(silent)
    unpause = left_frozen.client.unpause_container
    calls = []

    def answer(ref, *, timeout=None):
        calls.append((ref, timeout))
        if ref == naming.name_of(silent):
            raise errors.Timeout("no answer")
        unpause(ref)

    left_frozen.client.create_container(
        naming.name_of(silent), {"Image": "image", "Labels": {}}
    )
    left_frozen.client.start_container(naming.name_of(silent))
    left_frozen.client.pause_container(naming.name_of(silent))
    monkeypatch.setattr(left_frozen.client, "unpause_container", answer)
    left_frozen.power.release()
    assert left_frozen.status == "running"
    assert frozen.marked() == [silent]
    short = module._CALL_SECONDS
    assert calls == [(naming.name_of(silent), short), (left_frozen.name, short)]


def test_a_thaw_that_waits_for_the_engine_delays_no_other_server(
    left_frozen, monkeypatch
):
    other = samples.instance()
    name = naming.name_of(other.uuid)
    left_frozen.client.create_container(name, {"Image": "image", "Labels": {}})
    left_frozen.client.start_container(name)
    unpause = left_frozen.client.unpause_container
    held = []

    def hold_other(ref, *, timeout=None):
        if ref == left_frozen.name:
            snapshot = threading.Thread(target=hold)
            snapshot.start()
            snapshot.join(10)
        unpause(ref)

    def hold():
        with left_frozen.power.held(other):
            held.append(other)

    monkeypatch.setattr(left_frozen.client, "unpause_container", hold_other)
    left_frozen.power.release()
    assert held == [other]


def test_a_snapshot_waits_until_its_server_is_thawed(left_frozen, monkeypatch):
    unpause = left_frozen.client.unpause_container
    during = []

    def hold():
        with left_frozen.power.held(left_frozen.instance):
            during.append((left_frozen.status, frozen.marked()))

    snapshot = threading.Thread(target=hold)

    def begin_snapshot(ref, *, timeout=None):
        monkeypatch.setattr(left_frozen.client, "unpause_container", unpause)
        snapshot.start()
        snapshot.join(0.1)
        assert not during
        unpause(ref)

    monkeypatch.setattr(left_frozen.client, "unpause_container", begin_snapshot)
    left_frozen.power.release()
    snapshot.join(10)
    assert during == [("paused", [left_frozen.instance.uuid])]
    assert left_frozen.status == "running"
    assert frozen.marked() == []
