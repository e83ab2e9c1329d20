# SPDX-License-Identifier: Apache-2.0
"""Suspending servers to disk on a real engine with CRIU."""

from __future__ import annotations

import pytest
from nova import exception
from nova.compute import power_state

from nova_docker.privsep import network
from tests import criu
from tests import samples
from tests.counter import COUNT
from tests.counter import counted
from tests.functional.host import eventually
from tests.functional.host import state


@pytest.fixture(autouse=True)
def program(engine, request, monkeypatch):
    """CRIU, in the PATH of the engine and of the driver."""
    criu.skip_if_nothing_is_restored(engine)
    monkeypatch.setenv("PATH", str(engine.programs), prepend=":")
    criu_tree = request.getfixturevalue("criu_tree")
    installed = criu.install(criu_tree, engine.programs)
    yield installed
    installed.unlink(missing_ok=True)


@pytest.fixture
def shared():
    """A flavor whose servers CRIU can restore."""
    return samples.flavor(extra_specs={"docker:isolation": "shared"})


@pytest.fixture
def counting(program, boot, image, shared):
    server = boot(image(config={"Entrypoint": ["sh", "-c", COUNT]}), flavor=shared)
    assert eventually(lambda: counted(server) > 5)
    return server


def saved(server):
    return server.engine.client.list_checkpoints(server.name)


def test_a_server_is_suspended_to_disk_and_resumes_where_it_was(driver, counting):
    before = counted(counting)
    driver.suspend(None, counting.instance)
    assert state(driver, counting) == power_state.SHUTDOWN
    assert counting.inspect()["State"]["Pid"] == 0

    driver.resume(None, counting.instance, counting.network_info)

    assert state(driver, counting) == power_state.RUNNING
    assert before <= counted(counting) < before + 50
    assert eventually(lambda: counted(counting) > before + 50)
    assert "192.0.2.10/24" in counting.run("ip -o addr show dev eth0")
    assert saved(counting) == []
    # The restored process has no additional privileges.
    status = counting.run("cat /proc/1/status")
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status


def test_a_server_suspended_to_disk_resumes_after_a_host_restart(
    driver, make_driver, counting, engine
):
    before = counted(counting)
    driver.suspend(None, counting.instance)
    engine.stop()
    network.unplug(counting.name)
    engine.start()
    restarted = make_driver()
    assert state(restarted, counting) == power_state.SHUTDOWN
    restarted.resume(None, counting.instance, counting.network_info)
    assert before <= counted(counting) < before + 50
    assert "192.0.2.10/24" in counting.run("ip -o addr show dev eth0")


@pytest.mark.parametrize(
    ("before", "after"), [(True, True), (True, False), (False, True)]
)
def test_a_server_resumes_whether_lxcfs_runs_or_not(
    driver, lxcfs, boot, image, shared, before, after
):
    if not before:
        lxcfs.kill()
    server = boot(image(config={"Entrypoint": ["sh", "-c", COUNT]}), flavor=shared)
    assert eventually(lambda: counted(server) > 5)
    driver.suspend(None, server.instance)
    assert state(driver, server) == power_state.SHUTDOWN
    if before:
        lxcfs.kill()
    if after:
        lxcfs.restart()
    driver.resume(None, server.instance, server.network_info)
    assert server.run("cat /proc/meminfo").startswith("MemTotal:")


@pytest.mark.parametrize("verb", ["reboot", "power_on"])
def test_starting_a_suspended_server_discards_the_checkpoint(driver, counting, verb):
    driver.suspend(None, counting.instance)
    if verb == "reboot":
        driver.reboot(None, counting.instance, counting.network_info, "HARD")
    else:
        driver.power_off(counting.instance)
        driver.power_on(None, counting.instance, counting.network_info)
    assert state(driver, counting) == power_state.RUNNING
    assert saved(counting) == []


def test_a_server_with_a_user_namespace_is_frozen(driver, boot, caplog):
    caplog.set_level("INFO")
    server = boot()
    pid = server.inspect()["State"]["Pid"]
    driver.suspend(None, server.instance)
    assert state(driver, server) == power_state.PAUSED
    assert "frozen in memory: CRIU cannot restore" in caplog.text
    driver.resume(None, server.instance, server.network_info)
    assert state(driver, server) == power_state.RUNNING
    assert server.inspect()["State"]["Pid"] == pid
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


def test_a_server_that_cannot_be_checkpointed_is_frozen(
    driver, boot, image, caplog, shared
):
    """The engine does not let CRIU checkpoint established TCP connections."""
    script = "httpd -p 80; while :; do sleep 1000 | nc 127.0.0.1 80; done"
    server = boot(image(config={"Entrypoint": ["sh", "-c", script]}), flavor=shared)
    established = "grep -c ' 01 00000000' /proc/net/tcp || true"
    assert eventually(lambda: server.run(established) != "0\n")
    pid = server.inspect()["State"]["Pid"]

    driver.suspend(None, server.instance)
    assert state(driver, server) == power_state.PAUSED
    assert "Checkpoint failed; the server stays frozen in memory" in caplog.text
    driver.resume(None, server.instance, server.network_info)
    # containerd pauses a task for a checkpoint, and the engine may hear of that late:
    # for a moment, it takes the server for paused once more.
    assert eventually(lambda: state(driver, server) == power_state.RUNNING)
    assert server.inspect()["State"]["Pid"] == pid


def test_a_server_that_cannot_be_restored_stays_suspended(driver, counting, program):
    driver.suspend(None, counting.instance)
    works = program.read_text()
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(exception.InstanceFaultRollback):
        driver.resume(None, counting.instance, counting.network_info)
    assert saved(counting)
    program.write_text(works)
    driver.resume(None, counting.instance, counting.network_info)
    assert state(driver, counting) == power_state.RUNNING
