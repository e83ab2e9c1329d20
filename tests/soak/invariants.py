# SPDX-License-Identifier: Apache-2.0
"""What must hold at any quiet moment: judgements of an observation."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from nova.compute import power_state

from nova_docker.container import naming
from tests.soak.observe import Observation
from tests.soak.observe import Server

# The engine's statuses of a server's container, by Nova's status of the server. A
# server that was frozen loses its memory with the engine's restart, if that ends it.
EXPECTED = {
    "ACTIVE": ("running",),
    "SHUTOFF": ("exited", "created"),
    "PAUSED": ("paused",),
    "SUSPENDED": ("paused", "exited"),
    "RESCUE": ("running", "exited"),
    "VERIFY_RESIZE": ("running", "exited", "created"),
}

# Bounds for nova-compute with 30 servers: memory in MiB, descriptors, threads.
BOUNDS = {"rss_mib": 600, "fds": 300, "threads": 200}
DAEMONS = 3


def violations(seen: Observation) -> list[str]:
    """Return one sentence for each way in which the state is not true or leaks."""
    return sorted({*_untrue(seen), *_leaking(seen), *_unbounded(seen)})


def _untrue(seen: Observation) -> Iterator[str]:
    if not seen.up:
        yield "nova-compute is down"
    for uuid, server in seen.servers.items():
        status = _effective(server)
        expected = EXPECTED.get(status)
        # A server whose verb an outage has cut off can be deleted, which users try.
        if server.task or expected is None:
            continue
        title = f"server {uuid} is {status}"
        container = seen.containers.get(naming.name_of(uuid))
        if container is None:
            yield f"{title}, but has no container"
            continue
        if container.status not in expected:
            yield f"{title}, but its container is {container.status}"
        aside = naming.aside_name_of(uuid) in seen.containers
        if aside != (status == "RESCUE"):
            there = "there is a" if aside else "there is no"
            yield f"{title}, but {there} container that was set aside"
        if naming.name_of(uuid) not in seen.namespaces:
            yield f"{title}, but has no network namespace"
        if status == "ACTIVE":
            if uuid not in seen.answering:
                yield f"{title}, but does not answer"
            if uuid not in seen.counting | seen.uncounted:
                yield f"{title}, but does not count"
        if status in ("SHUTOFF", "PAUSED", "SUSPENDED"):
            if uuid in seen.answering:
                yield f"{title}, but answers"
            if uuid in seen.counting:
                yield f"{title}, but counts"


def _effective(server: Server) -> str:
    """Return the status that a server's power state stands for.

    When nova-compute starts, it forgets that a server is being paused, for example. It
    may receive the request only then, and the status does not change. The power state
    does, and it must be true.
    """
    if server.status == "ACTIVE" and server.power == power_state.PAUSED:
        return "PAUSED"
    if server.status in ("PAUSED", "SUSPENDED") and server.power == power_state.RUNNING:
        return "ACTIVE"
    return server.status


def _leaking(seen: Observation) -> Iterator[str]:
    known = set(seen.servers)
    names = {naming.name_of(uuid) for uuid in known}
    for name, container in seen.containers.items():
        if container.uuid not in known:
            yield f"container {name} has no server"
    for name in seen.namespaces - names:
        yield f"network namespace {name} has no server"
    for device, name in seen.devices.items():
        if name not in names:
            yield f"device {device} of {name} has no server"
    for port, uuid in seen.switch.items():
        if uuid not in known:
            yield f"switch port {port} of {uuid} has no server"
    for port in seen.broken:
        yield f"switch port {port} has no device"
    for uuid in seen.config_drives - known:
        yield f"config drive {uuid} has no server"
    busy = any("image" in (server.task or "") for server in seen.servers.values())
    if not busy:
        for tag in seen.snapshots:
            yield f"image {tag} is left of a snapshot"
    for orphan in seen.orphans:
        yield f"{orphan} has no container"
    for volume in seen.volumes - seen.refused:
        yield f"volume {volume} has no container"
    for consumer in seen.allocations - known - seen.migrations - seen.ended:
        yield f"allocation {consumer} has no server"
    for port, device in seen.ports.items():
        if device not in known:
            yield f"Neutron port {port} of {device or 'nothing'} has no server"
    if seen.daemons > DAEMONS:
        yield f"{seen.daemons} privileged daemons run"


def _unbounded(seen: Observation) -> Iterator[str]:
    for name, bound in BOUNDS.items():
        if seen.compute.get(name, 0) > bound:
            yield f"nova-compute has {name} of more than {bound}"


def stale(seen: Observation) -> set[str]:
    """Return the allocations of resizes that have ended.

    Nova ends a resize even if Placement is away, and lets users delete a server whose
    resize was cut off. It leaves the allocations to operators: `nova-manage placement
    audit --delete` removes them.
    """
    return seen.allocations & seen.ended


def leaks(before: Observation, after: Observation) -> list[str]:
    """Return what there is after a run that was not there before."""
    found = []
    for field in dataclasses.fields(Observation):
        if field.name in (
            "counting",
            "answering",
            "uncounted",
            "compute",
            "up",
            "daemons",
            "ended",
            "refused",
        ):
            continue
        old, new = getattr(before, field.name), getattr(after, field.name)
        found += [f"{field.name}: {item}" for item in sorted(set(new) - set(old))]
    return found
