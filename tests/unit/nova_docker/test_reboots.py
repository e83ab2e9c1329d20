# SPDX-License-Identifier: Apache-2.0
"""Servers that reboot from inside: which ones start again, and when."""

from __future__ import annotations

import itertools
import threading
import time

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import task_states
from nova.compute import vm_states
from oslo_concurrency import lockutils

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import power as power_room
from nova_docker import reboots
from nova_docker.container import init
from nova_docker.container import naming
from tests import archives
from tests import samples

TIMEOUT = 10
CONF = nova_conf.CONF


class Power:
    """A stand-in for :class:`nova_docker.power.Power`."""

    def __init__(self, client):
        self.client = client
        self.failure = None

    def start(self, instance, network_info):
        if self.failure:
            raise self.failure
        self.client.start_container(naming.name_of(instance.uuid))


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["image:1"])])
    return mock


@pytest.fixture
def instance(client, monkeypatch):
    """A server that runs, as Nova has recorded it."""
    found = samples.instance(host=CONF.host)
    labels = {naming.UUID_LABEL: found.uuid, init.LABEL: init.SYSTEMD}
    name = naming.name_of(found.uuid)
    client.create_container(name, {"Image": "image:1", "Labels": labels})
    client.start_container(name)
    monkeypatch.setattr(objects.Instance, "get_by_uuid", lambda *args: found)
    monkeypatch.setattr(type(found), "get_network_info", lambda self: [])
    return found


@pytest.fixture
def power(client):
    return Power(client)


@pytest.fixture
def stopped():
    """The servers that are reported to stay stopped."""
    return []


@pytest.fixture
def rebooting(client, power, stopped, monkeypatch):
    monkeypatch.setattr(reboots, "_INTERVAL", 0.01)
    found = reboots.Reboots(client, power, stopped.append)
    yield found
    found.stop()


@pytest.fixture
def reboot(client, instance, rebooting, stopped):
    """Has the server reboot; returns whether it stays stopped."""

    def run(code=129):
        stopped.clear()
        client.exit(naming.name_of(instance.uuid), code)
        rebooting.begin(instance.uuid)
        finish(rebooting)
        return stopped == [instance.uuid]

    return run


def finish(rebooting):
    deadline = time.monotonic() + TIMEOUT
    while rebooting._pending and time.monotonic() < deadline:
        time.sleep(0.001)
    assert not rebooting._pending


def runs(client, instance):
    found = client.inspect_container(naming.name_of(instance.uuid))
    return found["State"]["Running"]


def test_a_server_that_reboots_starts_again(client, instance, reboot):
    assert not reboot()
    assert runs(client, instance)


@pytest.mark.parametrize(
    ("vm_state", "task_state", "expected"),
    [
        (vm_states.ACTIVE, None, True),
        (vm_states.RESCUED, None, True),
        (vm_states.RESIZED, None, True),
        (vm_states.ACTIVE, task_states.IMAGE_UPLOADING, True),
        (vm_states.ACTIVE, task_states.POWERING_OFF, False),
        (vm_states.ACTIVE, task_states.REBOOTING, False),
        (vm_states.ACTIVE, task_states.DELETING, False),
        (vm_states.ACTIVE, task_states.REBUILDING, False),
        (vm_states.ACTIVE, task_states.RESCUING, False),
        (vm_states.ACTIVE, task_states.SUSPENDING, False),
        (vm_states.STOPPED, None, False),
        (vm_states.PAUSED, None, False),
        (vm_states.ERROR, None, False),
        (vm_states.SHELVED, None, False),
    ],
)
def test_only_a_server_that_should_run_starts_again(
    client, instance, reboot, vm_state, task_state, expected, monkeypatch
):
    monkeypatch.setattr(reboots, "_PATIENCE", 0)
    instance.vm_state, instance.task_state = vm_state, task_state
    assert reboot() is not expected
    assert runs(client, instance) is expected


def test_a_server_of_another_host_does_not_start(client, instance, reboot):
    instance.host = "another"
    assert reboot()
    assert not runs(client, instance)


def test_a_server_that_is_gone_does_not_start(
    client, instance, rebooting, monkeypatch, reboot
):
    def gone(*args):
        raise exception.InstanceNotFound(instance_id=instance.uuid)

    monkeypatch.setattr(objects.Instance, "get_by_uuid", gone)
    assert reboot()
    assert not runs(client, instance)


def test_a_server_waits_until_nova_answers(client, instance, reboot, monkeypatch):
    failures = iter([OSError("conductor away"), OSError("still")])

    def answer(*args):
        for failure in failures:
            raise failure
        return instance

    monkeypatch.setattr(objects.Instance, "get_by_uuid", answer)
    assert not reboot()
    assert runs(client, instance)


def test_a_failed_start_leaves_the_server_stopped(client, instance, power, reboot):
    power.failure = exception.InstancePowerOnFailure(reason="broken")
    assert reboot()
    assert not runs(client, instance)


def test_an_engine_that_fails_for_a_moment_is_asked_again(
    client, instance, power, reboot
):
    start, failures = power.start, iter([exception.NovaException("engine away")])

    def fail_once(*args):
        for failure in failures:
            raise failure
        start(*args)

    power.start = fail_once
    assert not reboot()
    assert runs(client, instance)


@pytest.mark.parametrize("code", [0, 130, 137])
def test_a_server_that_ends_otherwise_is_reported_at_once(
    client, instance, reboot, code
):
    """Whatever attributes its event has: an image's label can forge them."""
    assert reboot(code)
    assert not runs(client, instance)


def test_a_server_does_not_start_during_its_snapshot(
    client, instance, rebooting, stopped
):
    client.exit(naming.name_of(instance.uuid), 129)
    with power_room.alone(instance.uuid):
        rebooting.begin(instance.uuid)
        time.sleep(0.05)
        assert not runs(client, instance)
        # Nova's own verbs do not wait for the snapshot.
        with lockutils.lock(instance.uuid):
            rebooting.settle(instance)
    finish(rebooting)
    assert runs(client, instance)
    assert not stopped


def test_a_server_does_not_start_while_its_nics_change(client, instance, rebooting):
    client.exit(naming.name_of(instance.uuid), 129)
    with rebooting.held_off(instance):
        rebooting.begin(instance.uuid)
        time.sleep(0.05)
        assert not runs(client, instance)
    finish(rebooting)
    assert runs(client, instance)


def test_a_verb_that_nova_breaks_off_does_not_lose_the_reboot(
    client, instance, rebooting
):
    client.exit(naming.name_of(instance.uuid), 129)
    instance.task_state = task_states.PAUSING
    rebooting.begin(instance.uuid)
    time.sleep(0.05)
    assert not runs(client, instance)
    instance.task_state = None
    finish(rebooting)
    assert runs(client, instance)


def test_verbs_do_not_wait_while_nova_does_not_answer(
    client, instance, rebooting, monkeypatch
):
    failing = threading.Event()

    def fail(*args):
        failing.set()
        raise OSError("conductor away")

    monkeypatch.setattr(objects.Instance, "get_by_uuid", fail)
    client.exit(naming.name_of(instance.uuid), 129)
    rebooting.begin(instance.uuid)
    assert failing.wait(TIMEOUT)
    with lockutils.lock(instance.uuid):
        rebooting.settle(instance)


def test_a_host_without_threads_reports_the_server_stopped(
    instance, rebooting, stopped, mocker
):
    mocker.patch("threading.Thread.start", side_effect=RuntimeError("no thread"))
    rebooting.begin(instance.uuid)
    assert stopped == [instance.uuid]
    assert not rebooting.hides(instance)


def test_nova_finishes_first_what_it_does_with_the_server(
    client, instance, rebooting, stopped
):
    client.exit(naming.name_of(instance.uuid), 129)
    with lockutils.lock(instance.uuid):
        rebooting.begin(instance.uuid)
        time.sleep(0.05)
        assert not runs(client, instance)
        instance.vm_state = vm_states.STOPPED
    finish(rebooting)
    assert stopped == [instance.uuid]
    assert not runs(client, instance)


def test_a_server_that_somebody_has_started_is_left_alone(
    client, instance, rebooting, stopped
):
    started = client.inspect_container(naming.name_of(instance.uuid))["State"]
    rebooting.begin(instance.uuid)
    finish(rebooting)
    found = client.inspect_container(naming.name_of(instance.uuid))["State"]
    assert found["StartedAt"] == started["StartedAt"]
    assert not stopped


def test_nova_sees_a_server_run_while_it_reboots(client, instance, rebooting):
    assert not rebooting.hides(instance)
    client.exit(naming.name_of(instance.uuid), 129)
    with lockutils.lock(instance.uuid):
        rebooting.begin(instance.uuid)
        assert rebooting.hides(instance)
        # What Nova does itself it must see.
        instance.task_state = task_states.POWERING_OFF
        assert not rebooting.hides(instance)
        instance.task_state = None
    finish(rebooting)
    assert not rebooting.hides(instance)


def test_a_verb_waits_for_a_start_that_has_begun(client, instance, power, rebooting):
    begun, proceed = threading.Event(), threading.Event()

    def start(instance, network_info):
        begun.set()
        proceed.wait(TIMEOUT)

    power.start = start
    client.exit(naming.name_of(instance.uuid), 129)
    rebooting.begin(instance.uuid)
    assert begun.wait(TIMEOUT)
    settling = threading.Thread(target=rebooting.settle, args=(instance,))
    settling.start()
    settling.join(0.05)
    assert settling.is_alive()
    proceed.set()
    settling.join(TIMEOUT)
    assert not settling.is_alive()
    finish(rebooting)


def test_a_reboot_while_the_server_starts_is_not_missed(
    client, instance, power, rebooting, monkeypatch
):
    name = naming.name_of(instance.uuid)
    monkeypatch.setattr(reboots, "delay", lambda last, before: 0)
    starts = itertools.count(1)

    def start(instance, network_info):
        client.start_container(name)
        if next(starts) == 1:
            client.exit(name, 129)
            rebooting.begin(instance.uuid)

    power.start = start
    client.exit(name, 129)
    rebooting.begin(instance.uuid)
    finish(rebooting)
    assert runs(client, instance)


def test_a_reboot_while_nova_compute_was_down_is_made_up_for_once(
    client, instance, rebooting
):
    client.exit(naming.name_of(instance.uuid), 129)
    client.fail_next("list_containers", errors.Unreachable("gone"))
    rebooting.recover()
    finish(rebooting)
    assert not runs(client, instance)
    rebooting.recover()
    finish(rebooting)
    assert runs(client, instance)
    client.exit(naming.name_of(instance.uuid), 129)
    rebooting.recover()
    finish(rebooting)
    assert not runs(client, instance)


def test_servers_that_reboot_again_and_again_have_to_wait():
    waits, last = [], float("inf")
    seconds = 0.0
    for _ in range(9):
        seconds = reboots.delay(last, seconds)
        waits.append(seconds)
        last = 1
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert reboots.delay(61, 60) == 0


def test_the_second_of_two_reboots_waits(instance, rebooting, reboot):
    reboot()
    began = time.monotonic()
    reboot()
    assert time.monotonic() - began >= 1
