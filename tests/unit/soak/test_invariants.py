# SPDX-License-Identifier: Apache-2.0
"""What a soak takes for a violation."""

from __future__ import annotations

import dataclasses

import pytest
from nova.compute import power_state

from tests.soak.invariants import leaks
from tests.soak.invariants import stale
from tests.soak.invariants import violations
from tests.soak.observe import Container
from tests.soak.observe import Observation
from tests.soak.observe import Server

UUID = "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd"
NAME = f"nova-{UUID}"


def observation(status="ACTIVE", container="running", **values):
    seen = Observation(
        servers={UUID: Server("soak-1", status)},
        containers={NAME: Container(container, UUID)},
        namespaces={NAME},
        devices={"tap1": NAME},
        switch={"tap1": UUID},
        config_drives={UUID},
        allocations={UUID},
        ports={"port": UUID},
        daemons=2,
        compute={"rss_mib": 150, "fds": 50, "threads": 100, "pid": 1},
    )
    if status == "ACTIVE":
        seen.answering = seen.counting = {UUID}
    return dataclasses.replace(seen, **values)


@pytest.mark.parametrize(
    ("status", "container"),
    [
        ("ACTIVE", "running"),
        ("SHUTOFF", "exited"),
        ("PAUSED", "paused"),
        ("SUSPENDED", "paused"),
        ("VERIFY_RESIZE", "running"),
        ("ERROR", "running"),
    ],
)
def test_a_true_state_is_no_violation(status, container):
    assert violations(observation(status, container)) == []


def test_allocations_of_ended_resizes_are_stale_and_no_leak():
    seen = observation(allocations={UUID, "migration"})
    assert violations(seen) == ["allocation migration has no server"]
    seen.ended = {"migration"}
    assert violations(seen) == []
    assert stale(seen) == {"migration"}


@pytest.mark.parametrize(
    ("status", "power", "container"),
    [
        ("ACTIVE", power_state.PAUSED, "paused"),
        ("PAUSED", power_state.RUNNING, "running"),
        ("SUSPENDED", power_state.RUNNING, "running"),
    ],
)
def test_the_power_state_is_true_even_if_the_status_is_not(status, power, container):
    working = {UUID} if power == power_state.RUNNING else set()
    seen = observation(status, container, answering=working, counting=working)
    seen.servers = {UUID: Server("soak-1", status, power=power)}
    assert violations(seen) == []
    other = "running" if container == "paused" else "paused"
    seen.containers = {NAME: Container(other, UUID)}
    assert violations(seen) != []


def test_a_server_in_rescue_has_two_containers():
    seen = observation("RESCUE")
    assert "no container that was set aside" in violations(seen)[0]
    seen.containers[f"{NAME}-rescued"] = Container("exited", UUID)
    assert violations(seen) == []
    seen.servers = {UUID: Server("soak-1", "SHUTOFF")}
    assert len(violations(seen)) == 2


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (observation(container="exited"), "its container is exited"),
        (observation(containers={}), "has no container"),
        (observation("SHUTOFF"), "its container is running"),
        (observation("SHUTOFF", "exited", answering={UUID}), "answers"),
        (observation("PAUSED", "paused", counting={UUID}), "counts"),
        (observation(answering=set()), "does not answer"),
        (observation(counting=set()), "does not count"),
        (observation(namespaces=set()), "no network namespace"),
        (observation(up=False), "nova-compute is down"),
        (observation(broken={"tap2"}), "tap2 has no device"),
        (observation(snapshots={"nova-snapshot/1:latest"}), "left of a snapshot"),
        (observation(orphans={"mount /x"}), "mount /x has no container"),
        (observation(volumes={"v"}), "volume v has no container"),
        (observation(allocations={UUID, "other"}), "allocation other"),
        (observation(ports={"port": UUID, "p2": ""}), "p2 of nothing"),
        (observation(daemons=4), "4 privileged daemons"),
        (observation(compute={"fds": 10_000}), "fds of more than"),
    ],
)
def test_a_violation_is_described(seen, expected):
    [found] = violations(seen)
    assert expected in found


def test_what_belongs_to_no_server_is_a_violation():
    seen = observation(servers={}, answering=set(), counting=set())
    kinds = {text.split()[0] for text in violations(seen)}
    assert kinds == {
        "Neutron",
        "allocation",
        "config",
        "container",
        "device",
        "network",
        "switch",
    }


def test_a_server_with_a_task_is_not_judged():
    servers = {UUID: Server("soak-1", "ACTIVE", "rescuing")}
    assert violations(observation(container="exited", servers=servers)) == []


def test_a_resize_that_waits_has_an_allocation_of_its_own():
    seen = observation(allocations={UUID, "migration"}, migrations={"migration"})
    assert violations(seen) == []


def test_what_is_new_after_a_run_is_left():
    before = observation()
    after = observation(untagged={"sha256:1"}, ports={"port": UUID, "new": UUID})
    assert leaks(before, before) == []
    assert leaks(before, after) == ["untagged: sha256:1", "ports: new"]
