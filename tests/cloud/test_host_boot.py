# SPDX-License-Identifier: Apache-2.0
"""Servers after a restart of their host."""

from __future__ import annotations

from nova_docker.container.naming import name_of
from nova_docker.rescue import MOUNT_POINT
from tests.cloud import services
from tests.cloud.conftest import eventually


def running(engine, server):
    return engine.inspect_container(name_of(server.id))["State"]["Running"]


def has_its_address(server):
    return server.address() in server.run("ip -o addr show dev eth0")


def test_servers_return_to_their_states_after_a_power_cut(boot, engine):
    active, stopped, paused, suspended, rescued = (boot() for _ in range(5))
    for server in (active, suspended, rescued):
        server.run("echo kept > /file")
    stopped.act("stop_server", until="SHUTOFF")
    paused.act("pause_server", until="PAUSED")
    suspended.act("suspend_server", until="SUSPENDED")
    rescued.act("rescue_server", until="RESCUE")

    services.reboot_host()

    assert eventually(lambda: running(engine, active))
    assert eventually(lambda: has_its_address(active))
    assert active.run("cat /file") == "kept\n" and active.status == "ACTIVE"
    assert eventually(lambda: running(engine, rescued))
    assert rescued.run(f"cat {MOUNT_POINT}/file") == "kept\n"
    assert rescued.status == "RESCUE" and has_its_address(rescued)

    assert not running(engine, stopped) and stopped.status == "SHUTOFF"
    stopped.act("start_server", until="ACTIVE")
    assert has_its_address(stopped)

    assert suspended.status == "SUSPENDED"
    suspended.act("resume_server", until="ACTIVE")
    assert suspended.run("cat /file") == "kept\n" and has_its_address(suspended)

    # Nova's power state synchronization runs a minute after the start.
    assert eventually(lambda: paused.status == "SHUTOFF")
    paused.act("start_server", until="ACTIVE")
    assert has_its_address(paused)
