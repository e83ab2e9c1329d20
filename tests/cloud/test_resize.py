# SPDX-License-Identifier: Apache-2.0
"""Resizing servers on their host."""

from __future__ import annotations

import pytest
from oslo_utils import units

from nova_docker.container.naming import name_of
from tests.cloud.cloud import nova_compute
from tests.cloud.conftest import eventually


@pytest.fixture
def limits(engine):
    def read(server):
        """Return the limits of memory, in MiB, and of CPUs."""
        found = engine.inspect_container(name_of(server.id))["HostConfig"]
        return found["Memory"] // units.Mi, found["CpuQuota"] // found["CpuPeriod"]

    return read


@pytest.fixture
def process(engine):
    def read(server):
        state = engine.inspect_container(name_of(server.id))["State"]
        return state["Pid"], state["StartedAt"]

    return read


@pytest.fixture
def large(demo, flavor):
    return demo.compute.find_flavor(flavor(ram=128, vcpus=2)).id


@pytest.fixture
def small(demo, flavor):
    return demo.compute.find_flavor(flavor(ram=32)).id


def reason(admin, server, event):
    """Return why an event of a server's last action failed.

    A server that is not in ERROR shows no fault.
    """
    api, url = admin.compute, f"/servers/{server.id}/os-instance-actions"
    action = api.get(url, microversion="2.84").json()["instanceActions"][0]
    answer = api.get(f"{url}/{action['request_id']}", microversion="2.84").json()
    return next(
        (
            found["details"]
            for found in answer["instanceAction"]["events"]
            if found["event"] == event
        ),
        None,
    )


def test_a_resize_is_confirmed(boot, large, limits, process):
    server = boot()
    before = process(server), server.address()
    server.act("resize_server", large, until="VERIFY_RESIZE")
    assert limits(server) == (128, 2)
    server.act("confirm_server_resize", until="ACTIVE")
    assert limits(server) == (128, 2)
    assert (process(server), server.address()) == before
    assert server.address() in server.run("ip -o addr show dev eth0")
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert limits(server) == (128, 2)


def test_a_resize_is_reverted(boot, large, limits, process):
    server = boot()
    before = process(server)
    server.act("resize_server", large, until="VERIFY_RESIZE")
    server.act("revert_server_resize", until="ACTIVE")
    assert limits(server) == (64, 1)
    assert process(server) == before
    assert server.address() in server.run("ip -o addr show dev eth0")


def test_a_stopped_server_stays_stopped(boot, large, limits):
    server = boot(networks="none")
    server.act("stop_server", until="SHUTOFF")
    server.act("resize_server", large, until="VERIFY_RESIZE")
    server.act("revert_server_resize", until="SHUTOFF")
    assert limits(server) == (64, 1)
    server.act("resize_server", large, until="VERIFY_RESIZE")
    server.act("confirm_server_resize", until="SHUTOFF")
    server.act("start_server", until="ACTIVE")
    assert limits(server) == (128, 2)


def test_memory_cannot_shrink_below_its_use(boot, admin, demo, small, limits, process):
    server = boot(networks="none")
    server.run("dd if=/dev/zero of=/dev/shm/kept bs=1M count=50")
    before = process(server)
    demo.compute.resize_server(server.id, small)
    event = "compute_resize_instance"
    assert "uses 5" in eventually(lambda: reason(admin, server, event))
    assert "has 32" in reason(admin, server, event)
    assert eventually(lambda: server.show().task_state is None)
    assert server.status == "ACTIVE"
    assert limits(server) == (64, 1)
    assert process(server) == before
    assert server.show().flavor.name == "docker.tiny"


def test_killing_nova_compute_during_a_resize_harms_no_server(
    boot, demo, large, limits, process
):
    server = boot(networks="none")
    before = process(server)
    demo.compute.resize_server(server.id, large)
    assert eventually(lambda: server.show().task_state, interval=0.01)
    compute = nova_compute()
    compute.kill()
    assert eventually(lambda: nova_compute(other_than=compute.pid))
    # Nova reverts the resize, or receives the message again and completes it.
    eventually(
        lambda: not server.show().task_state and server.status != "RESIZE", timeout=60
    )
    assert process(server) == before
    vcpus = server.show().flavor.vcpus
    assert limits(server) == {1: (64, 1), 2: (128, 2)}[vcpus]
