# SPDX-License-Identifier: Apache-2.0
"""Measure boots, deletes and listings: ``python -m tests.bench`` prints JSON.

Times depend on the machine, so each result is a ratio of two times, which are measured
alternately in one run: ``driver_ms`` for this project, ``baseline_ms`` for the same
without it.

- ``spawn``: ``driver.spawn`` with one NIC and an image that is on the host. Baseline:
  the engine creates and starts a container of the same image on its bridge network.
- ``delete``: ``driver.destroy`` of that server. Baseline: the engine removes that
  container by force.
- ``isolation``: the driver's ``spawn``, ``power_on`` and ``destroy`` of a server at
  each level of isolation that the host has. Baseline: at the level ``shared``.
- ``attach``, ``detach``: the driver gives a volume to a running server, and takes it
  back. Baseline: a program that os-brick runs by its privileged daemon, of which each
  connector needs at least one. That of local volumes, which is used here, needs none.
- ``boot``: from the API's response to the create request until the server is ACTIVE,
  without a port. Baseline: Nova's fake driver in the same cloud.
- ``first_listing``: until ``--images`` images of the engine, all new to Glance, are
  active in Glance. Baseline: only the calls to Glance, with the same concurrency.
- ``mechanisms``: see :mod:`tests.bench.mechanisms`.

``boot`` and ``first_listing`` use the cloud of ./quickstart, and start it if needed.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import pytest
from nova import conf as nova_conf
from nova.virt import fake
from os_brick import privileged as os_brick_privileged
from oslo_utils import uuidutils

from nova_docker.container import isolation
from nova_docker.driver import DockerDriver
from nova_docker.privsep import contexts
from tests import archives
from tests import engine as engines
from tests import samples
from tests.bench import boot
from tests.bench import first_listing
from tests.bench import mechanisms
from tests.bench import volumes
from tests.conftest import IMAGE
from tests.functional import host
from tests.functional import ovs

CONF = nova_conf.CONF


def timed(action: Callable[[], Any]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def compared(ours: list[float], baselines: list[float]) -> dict[str, float]:
    """Return the medians, in milliseconds, of two lists of seconds, and their ratio."""
    driver, baseline = statistics.median(ours), statistics.median(baselines)
    return {
        "driver_ms": round(driver * 1000, 1),
        "baseline_ms": round(baseline * 1000, 1),
        "ratio": round(driver / baseline, 2),
    }


def started(glance: host.Glance) -> tuple[DockerDriver, Any]:
    """Return a driver that has started, and an image in Glance."""
    image_meta = samples.image_meta()
    glance.archives[image_meta.id] = archives.busybox_archive()
    driver = DockerDriver(fake.FakeVirtAPI())
    driver.init_host("bench")
    return driver, image_meta


def spawn_and_delete(
    engine: engines.Engine, glance: host.Glance, rounds: int
) -> dict[str, Any]:
    driver, image_meta = started(glance)
    raw = {"Image": IMAGE, "Tty": True, "OpenStdin": True, "HostConfig": {}}
    levels = [
        level
        for level in isolation.LEVELS
        if driver._host.isolation.traits()[isolation.TRAIT.format(level.upper())]
    ]
    times: dict[str, list[float]] = collections.defaultdict(list)
    # The first round does not count: it loads the image.
    for counted in [False] + [True] * rounds:
        for level in levels:
            verbs = server_verbs(driver, image_meta, level)
            if counted:
                times[f"spawn {level}"].append(timed(verbs.spawn))
                timed(verbs.stop)
                times[f"start {level}"].append(timed(verbs.start))
                times[f"delete {level}"].append(timed(verbs.delete))
            else:
                verbs.spawn()
                verbs.delete()
        name = f"raw-{uuidutils.generate_uuid()}"

        def run_raw(name: str = name) -> None:
            engine.client.create_container(name, raw)
            engine.client.start_container(name)

        def remove_raw(name: str = name) -> None:
            engine.client.remove_container(name)

        times["raw create+start"].append(timed(run_raw))
        times["raw remove"].append(timed(remove_raw))
    driver.cleanup_host("bench")
    return {
        "spawn": compared(times["spawn user"], times["raw create+start"]),
        "delete": compared(times["delete user"], times["raw remove"]),
        "isolation": {
            level: {
                verb: compared(
                    times[f"{verb} {level}"], times[f"{verb} {isolation.SHARED}"]
                )
                for verb in ("spawn", "start", "delete")
            }
            for level in levels
            if level != isolation.SHARED
        },
    }


def attach_and_detach(
    glance: host.Glance, directory: pathlib.Path, rounds: int
) -> dict[str, Any]:
    driver, image_meta = started(glance)
    server = server_verbs(driver, image_meta, isolation.USER)
    server.spawn()
    attached, detached, steps = volumes.times(
        driver, server.instance, directory, rounds
    )
    server.delete()
    driver.cleanup_host("bench")
    return {
        "attach": compared(attached, steps),
        "detach": compared(detached, steps),
    }


def start_privileged_daemons() -> None:
    """Have daemons call the privileged functions, as nova-compute has.

    The functional tests call them in their own process. That is much larger, so a fork
    takes longer in it.
    """
    helper = pathlib.Path(sys.executable).parent / "privsep-helper"
    CONF.set_override("helper_command", str(helper), "nova_docker_privileged")
    contexts.configure()
    for context in (
        contexts.netns_admin,
        contexts.userns_admin,
        contexts.devices_admin,
        os_brick_privileged.default,
    ):
        context.set_client_mode(True)


class Verbs(NamedTuple):
    """The driver's verbs, for one server."""

    instance: Any
    spawn: Callable[[], Any]
    stop: Callable[[], Any]
    start: Callable[[], Any]
    delete: Callable[[], Any]


def server_verbs(driver: DockerDriver, image_meta: Any, level: str) -> Verbs:
    flavor = samples.flavor(extra_specs={"docker:isolation": level})
    instance = samples.instance(flavor=flavor)
    context = samples.request_context()
    vif = samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    vif["network"]["bridge"] = ovs.BRIDGE
    vif["details"]["datapath_type"] = ovs.DATAPATH
    nics = samples.nics(vif)
    return Verbs(
        instance,
        lambda: driver.spawn(context, instance, image_meta, [], None, {}, nics),
        lambda: driver.power_off(instance),
        lambda: driver.power_on(context, instance, nics),
        lambda: driver.destroy(context, instance, nics),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=int, default=15, help="measurements of each kind (default: 15)"
    )
    parser.add_argument(
        "--images", type=int, default=100, help="images to list (default: 100)"
    )
    parser.add_argument(
        "--no-cloud", action="store_true", help="leave out boot and first_listing"
    )
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "rounds": arguments.rounds,
        "images": arguments.images,
    }
    if not arguments.no_cloud:
        results["boot"] = compared(*boot.times(arguments.rounds))
        sync, calls = first_listing.times(arguments.images)
        results["first_listing"] = compared([sync], [calls])
    with tempfile.TemporaryDirectory(prefix="nd-") as name:
        directory = pathlib.Path(name)
        with engines.running() as engine, ovs.running(directory) as switch:
            engine.client.load_image([archives.busybox_archive(tags=[IMAGE])])
            host.configure(engine, switch, directory / "locks")
            start_privileged_daemons()
            glance = host.Glance()
            with pytest.MonkeyPatch.context() as monkeypatch:
                host.without_openstack(monkeypatch, glance)
                results |= spawn_and_delete(engine, glance, arguments.rounds)
                results |= attach_and_detach(glance, directory, arguments.rounds)
            results["mechanisms"] = mechanisms.run(engine.host, IMAGE, arguments.rounds)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
