# SPDX-License-Identifier: Apache-2.0
"""Prints how long boots and deletes take, as JSON: ``python -m tests.bench``.

Figures of one machine say little of another: what counts is each ratio, whose
two sides are measured in turns, in one run.

- ``spawn``: ``driver.spawn`` with one NIC and its image present, against
  create and start of the same image on the engine's bridge network.
- ``delete``: ``driver.destroy`` of that server, against a forced removal of
  that container.
- ``mechanisms``: see :mod:`tests.bench.mechanisms`.
- ``boot``: from the API's answer to a create until the server is ACTIVE, with
  no port, against Nova's fake driver in the same cloud. Needs the cloud that
  ./quickstart starts; starts it unless it runs.
- ``first_listing``: until so many (``--images``) images of the engine that Glance
  knows nothing of are active in it, against bare calls of that Glance, as many at
  a time. Needs the same cloud.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from nova.virt import fake

from nova_docker.driver import DockerDriver
from tests import archives
from tests import engine as engines
from tests import samples
from tests.bench import boot
from tests.bench import first_listing
from tests.bench import mechanisms
from tests.conftest import IMAGE
from tests.functional import host
from tests.functional import ovs


def timed(action: Callable[[], Any]) -> float:
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def compared(ours: list[float], theirs: list[float]) -> dict[str, float]:
    """Two medians, in milliseconds, and their ratio."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    return {
        "driver_ms": round(mine * 1000, 1),
        "baseline_ms": round(other * 1000, 1),
        "ratio": round(mine / other, 2),
    }


def spawn_and_delete(
    engine: engines.Engine, glance: host.Glance, rounds: int
) -> dict[str, Any]:
    image_meta = samples.image_meta()
    glance.archives[image_meta.id] = archives.busybox_archive()
    driver = DockerDriver(fake.FakeVirtAPI())
    driver.init_host("bench")
    raw = {"Image": IMAGE, "Tty": True, "OpenStdin": True, "HostConfig": {}}
    times: dict[str, list[float]] = {
        name: [] for name in ("spawn", "raw create+start", "delete", "raw remove")
    }
    # The first of each is slower, and nobody's boot: the image is loaded in it.
    for counted in [False] + [True] * rounds:
        instance = samples.instance()
        vif = samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.10"))
        vif["network"]["bridge"] = ovs.BRIDGE
        vif["details"]["datapath_type"] = ovs.DATAPATH
        nics = samples.nics(vif)

        def spawn(instance: Any = instance, nics: Any = nics) -> None:
            context = samples.request_context()
            driver.spawn(context, instance, image_meta, [], None, {}, nics)

        def run_raw(name: str = f"raw-{instance.uuid}") -> None:
            engine.client.create_container(name, raw)
            engine.client.start_container(name)

        def destroy(instance: Any = instance, nics: Any = nics) -> None:
            driver.destroy(None, instance, nics)

        def remove_raw(name: str = f"raw-{instance.uuid}") -> None:
            engine.client.remove_container(name)

        actions: list[Callable[[], Any]] = [spawn, run_raw, destroy, remove_raw]
        for name, action in zip(times, actions, strict=True):
            took = timed(action)
            if counted:
                times[name].append(took)
    driver.cleanup_host("bench")
    return {
        "spawn": compared(times["spawn"], times["raw create+start"]),
        "delete": compared(times["delete"], times["raw remove"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument(
        "--no-cloud", action="store_true", help="leave out what needs a cloud"
    )
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "rounds": arguments.rounds,
        "images": arguments.images,
    }
    if not arguments.no_cloud:
        results["boot"] = compared(*boot.times(arguments.rounds))
        ours, theirs = first_listing.times(arguments.images)
        results["first_listing"] = compared([ours], [theirs])
    with tempfile.TemporaryDirectory(prefix="nd-") as name:
        directory = pathlib.Path(name)
        with engines.running() as engine, ovs.running(directory) as switch:
            engine.client.load_image([archives.busybox_archive(tags=[IMAGE])])
            host.configure(engine, switch, directory / "locks")
            glance = host.Glance()
            with pytest.MonkeyPatch.context() as monkeypatch:
                host.without_openstack(monkeypatch, glance)
                results |= spawn_and_delete(engine, glance, arguments.rounds)
            results["mechanisms"] = mechanisms.run(engine.host, IMAGE, arguments.rounds)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
