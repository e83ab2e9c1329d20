# SPDX-License-Identifier: Apache-2.0
"""One server's container, if it does not answer or is in passing states."""

from __future__ import annotations

import socket

import pytest
from nova import exception
from nova.compute import power_state

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import accounts
from nova_docker import guest as guests
from nova_docker.container import naming
from nova_docker.errors import EngineTimeout
from nova_docker.guest import Guest
from tests import archives
from tests import samples


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["busybox:latest"])])
    return mock


@pytest.fixture
def guest(client):
    made = Guest(client, samples.instance())
    made.create({"Image": "busybox:latest", "Labels": {}})
    made.start()
    return made


def test_the_state_of_a_server_that_does_not_answer_is_the_listed_one(
    client, guest, caplog
):
    client.fail_next("inspect_container", errors.Timeout("no answer"))
    found = guest.info()
    assert found.state == power_state.RUNNING
    assert found.internal_id == guest.info().internal_id
    assert "does not answer" in caplog.text


def test_a_server_that_neither_answers_nor_is_listed_does_not_exist(client):
    absent = Guest(client, samples.instance())
    client.fail_next("inspect_container", errors.Timeout("no answer"))
    assert not absent.exists()


def test_a_pause_that_is_not_the_servers_own_does_not_last(client, guest, monkeypatch):
    # A checkpoint that fails has paused it for a moment.
    [found] = client.list_containers()
    client.pause_container(found["Id"])
    monkeypatch.setattr(
        "nova_docker.guest.time.sleep",
        lambda seconds: client.unpause_container(found["Id"]),
    )
    guest.pause()
    assert client.inspect_container(found["Id"])["State"]["Status"] == "paused"


def test_a_server_whose_files_would_block_the_engine_is_not_started(client, guest):
    guest.stop(0)
    [found] = client.list_containers()
    large = archives.tar({"etc/group": b"x" * (2**20 + 1)})
    client.put_archive(found["Id"], "/", large)
    with pytest.raises(exception.InstancePowerOnFailure, match="/etc/group"):
        guest.start()
    assert guest.info().state == power_state.SHUTDOWN


def test_the_output_of_a_program_that_has_ended_already_is_read():
    ours, programs = socket.socketpair()
    with ours, programs:
        programs.sendall(b"\x01\0\0\0\0\0\0\5hello")
        programs.close()
        assert guests._converse(ours, b"input that nobody reads") == b"hello"


@pytest.fixture
def removals(client, monkeypatch):
    """The time-outs of all removals; the first one is not completed in time."""
    seen = []
    remove = client.remove_container

    def slowly(ref, *, timeout=None):
        seen.append(timeout)
        if len(seen) == 1:
            raise errors.Timeout("no answer")
        remove(ref)

    monkeypatch.setattr(client, "remove_container", slowly)
    return seen


def test_the_removal_of_a_large_server_gets_the_usual_time(client, guest, removals):
    guest.remove()
    assert removals[:2] == [guests._INFO_SECONDS, None]
    assert client.list_containers() == []


def test_the_removal_of_a_server_that_does_not_answer_ends_soon(
    client, guest, removals
):
    client.fail_next("inspect_container", errors.Timeout("no answer"))
    with pytest.raises(EngineTimeout):
        guest.remove()
    assert removals == [guests._INFO_SECONDS]


def test_an_engine_that_does_not_answer_is_no_server_that_does_not(client, guest):
    client.fail_next("list_containers", errors.Timeout("no answer"))
    with pytest.raises(exception.InstanceTerminationFailure, match="no answer"):
        guest.remove()
    assert guest.exists()


def test_a_server_that_vanishes_during_its_removal_is_removed(
    client, guest, removals, monkeypatch
):
    inspect = client.inspect_container

    def vanish(ref, **options):
        client._containers.clear()
        return inspect(ref, **options)

    monkeypatch.setattr(client, "inspect_container", vanish)
    guest.remove()
    assert client.list_containers() == []


def test_a_server_that_runs_is_not_started_even_if_it_ends_meanwhile(
    client, guest, monkeypatch
):
    check = accounts.check

    def ends_after_the_look(*args):
        found = check(*args)
        client.exit(naming.name_of(guest._instance.uuid))
        return found

    monkeypatch.setattr(accounts, "check", ends_after_the_look)
    guest.start()
    assert guest.info().state == power_state.SHUTDOWN


def test_a_paused_server_is_started_by_thawing_it(guest):
    guest.pause()
    guest.start()
    assert guest.info().state == power_state.RUNNING


def test_a_server_that_runs_is_not_restored(client, guest, monkeypatch):
    monkeypatch.setattr(client, "start_container", None)
    guest.restore()
    assert guest.info().state == power_state.RUNNING
