# SPDX-License-Identifier: Apache-2.0
"""Pausing, suspending and signalling servers on a real engine."""

from __future__ import annotations

import pytest
from nova import context
from nova import exception
from nova.compute import power_state

from nova_docker.driver import CONF
from tests import archives
from tests.counter import counted
from tests.functional.host import eventually
from tests.functional.host import state


@pytest.fixture
def counting(boot, image):
    """A server that counts while it runs."""
    script = "i=0; while :; do i=$((i+1)); echo $i > /count; done"
    archive = archives.busybox_archive(config={"Entrypoint": ["sh", "-c", script]})
    return boot(image(archive))


def test_a_paused_server_is_frozen_until_it_is_unpaused(driver, counting):
    before = counting.inspect()["State"]["Pid"]
    for _ in range(2):  # the second call has no effect
        driver.pause(counting.instance)
        assert state(driver, counting) == power_state.PAUSED
    for _ in range(2):
        driver.unpause(counting.instance)
        assert state(driver, counting) == power_state.RUNNING
    count = counted(counting)
    assert eventually(lambda: counted(counting) != count)
    assert counting.inspect()["State"]["Pid"] == before


def test_pause_unpause_and_crash_dump_need_a_running_server(driver, boot):
    server = boot()
    driver.power_off(server.instance)
    for verb in (driver.pause, driver.unpause, driver.trigger_crash_dump):
        with pytest.raises(exception.InstanceNotRunning):
            verb(server.instance)
    assert state(driver, server) == power_state.SHUTDOWN


@pytest.mark.parametrize("verb", ["power_off", "reboot", "destroy"])
def test_a_paused_server_can_be_stopped_rebooted_and_deleted(driver, boot, verb):
    server = boot()
    driver.pause(server.instance)
    ctxt, nics = context.get_admin_context(), server.network_info
    if verb == "power_off":
        driver.power_off(server.instance, 1)
        assert state(driver, server) == power_state.SHUTDOWN
    elif verb == "destroy":
        driver.destroy(ctxt, server.instance, nics)
        assert not driver.instance_exists(server.instance)
    else:
        driver.reboot(ctxt, server.instance, nics, "HARD")
        assert state(driver, server) == power_state.RUNNING


def test_a_suspended_server_resumes_where_it_was(driver, counting):
    before = counting.inspect()["State"]["StartedAt"]
    driver.suspend(None, counting.instance)
    assert state(driver, counting) == power_state.PAUSED
    driver.resume(None, counting.instance, counting.network_info)
    assert state(driver, counting) == power_state.RUNNING
    assert counting.inspect()["State"]["StartedAt"] == before


def test_a_suspended_server_starts_from_disk_after_a_host_restart(
    driver, boot, engine, caplog
):
    server = boot()
    server.run("echo kept > /file")
    driver.suspend(None, server.instance)
    engine.stop()
    engine.start()
    driver.unplug_vifs(server.instance, server.network_info)

    driver.resume(None, server.instance, server.network_info)

    assert state(driver, server) == power_state.RUNNING
    assert server.run("cat /file") == "kept\n"
    assert "192.0.2.10/24" in server.run("ip -o addr")
    assert "starts from its disk" in caplog.text


def test_a_crash_dump_sends_the_configured_signal(driver, boot, image):
    script = (
        "trap 'echo dumped' QUIT; trap 'echo other' USR1; while :; do sleep 0.1; done"
    )
    archive = archives.busybox_archive(config={"Entrypoint": ["sh", "-c", script]})
    server = boot(image(archive))

    def console_log():
        return driver.get_console_output(None, server.instance)

    driver.trigger_crash_dump(server.instance)
    assert eventually(lambda: "dumped" in console_log())
    CONF.set_override("crash_dump_signal", "SIGUSR1", "docker")
    try:
        driver.trigger_crash_dump(server.instance)
        assert eventually(lambda: "other" in console_log())
    finally:
        CONF.clear_override("crash_dump_signal", "docker")


def test_a_crash_dump_does_not_unpause_a_server(driver, boot, image):
    archive = archives.busybox_archive(config={"StopSignal": "SIGQUIT"})
    server = boot(image(archive))
    driver.pause(server.instance)
    with pytest.raises(exception.InstanceNotRunning):
        driver.trigger_crash_dump(server.instance)
    assert state(driver, server) == power_state.PAUSED


def test_a_quiesced_server_is_frozen(driver, boot):
    server = boot()
    driver.quiesce(None, server.instance, None)
    assert state(driver, server) == power_state.PAUSED
    driver.unquiesce(None, server.instance, None)
    assert state(driver, server) == power_state.RUNNING
