# SPDX-License-Identifier: Apache-2.0
"""Pausing, suspending, crash dumps, locks and diagnostics."""

from __future__ import annotations

import pytest
from openstack import exceptions

from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud.conftest import eventually


def state(engine, server):
    return engine.inspect_container(name_of(server.id))["State"]


@pytest.mark.parametrize(
    ("action", "back", "status"),
    [
        ("pause_server", "unpause_server", "PAUSED"),
        ("suspend_server", "resume_server", "SUSPENDED"),
    ],
)
def test_a_frozen_server_continues_where_it_was(boot, engine, action, back, status):
    server = boot()
    before = state(engine, server)
    server.act(action, until=status)
    assert state(engine, server)["Paused"]
    server.act(back, until="ACTIVE")
    assert state(engine, server) == before


@pytest.mark.parametrize("action", ["pause_server", "suspend_server"])
def test_a_frozen_server_can_be_rebooted_and_deleted(boot, engine, action):
    server = boot()
    server.act(action, until="PAUSED" if "pause" in action else "SUSPENDED")
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert state(engine, server)["Status"] == "running"
    server.act(action, until="PAUSED" if "pause" in action else "SUSPENDED")
    # The fixtures delete the server and check that nothing is left.


def test_a_crash_dump_signals_the_first_process(boot, upload):
    script = "trap 'echo dumped' QUIT; while :; do sleep 0.1; done"
    archive = archives.busybox_archive(config={"Entrypoint": ["sh", "-c", script]})
    server = boot(upload(archive))
    server.user.compute.trigger_server_crash_dump(server.id)
    assert eventually(lambda: "dumped" in server.console())


def test_the_owner_of_a_locked_server_cannot_pause_it(boot, admin):
    server = boot()
    admin.compute.lock_server(server.id)
    with pytest.raises(exceptions.ConflictException, match="locked"):
        server.user.compute.pause_server(server.id)
    admin.compute.unlock_server(server.id)
    server.act("pause_server", until="PAUSED")


def test_diagnostics_report_resource_use(boot, admin):
    server = boot()
    for microversion, (memory, unit) in {
        "2.1": ("memory", 1024),
        "2.48": ("memory_details", None),
    }.items():
        answer = admin.compute.get(
            f"/servers/{server.id}/diagnostics", microversion=microversion
        ).json()
        if unit:
            assert answer[memory] == 64 * unit
            assert answer["cpu0_time"] > 0
        else:
            assert answer[memory]["maximum"] == 64
            assert answer["hypervisor"] == "docker"
            [nic] = answer["nic_details"]
            assert nic["mac_address"] == server.port().mac_address
            assert nic["tx_octets"] > 0
