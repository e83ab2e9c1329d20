# SPDX-License-Identifier: Apache-2.0
"""nova-compute is killed at each step of a verb, and starts again.

Afterwards the server is what Nova takes it for, trying again or deleting it works, and
nothing of it is left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib

import psutil
import pytest
from nova.compute import vm_states
from pyroute2 import IPRoute

from nova_docker.container import naming
from tests import archives
from tests import samples
from tests.functional import kills
from tests.functional import ovs
from tests.functional.conftest import NO_TAG
from tests.functional.kills import Case
from tests.functional.kills import Compute
from tests.functional.kills import Kill

# All steps take some minutes: `tox -e kills`.
ALL = bool(os.environ.get("NOVA_DOCKER_ALL_KILLS"))


@pytest.fixture
def servers():
    """The names of the servers that a test has made."""
    return set()


@pytest.fixture
def make_case(engine, switch, configuration, tmp_path, servers):
    """Describes a new server; its image is on the engine unless it is booted."""

    def make() -> Case:
        vif = samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.77"))
        vif["network"]["bridge"] = ovs.BRIDGE
        vif["details"]["datapath_type"] = ovs.DATAPATH
        images = {
            samples.uuid(): archives.busybox_archive(
                config={"Volumes": {"/data": {}}},
                files={"marker": name, "serial": samples.uuid().encode()},
            )
            for name in (b"own", b"other")
        }
        case = Case(engine.host, switch.connection, str(tmp_path), images, vif)
        servers.add(naming.name_of(case.uuid))
        return case

    return make


@pytest.fixture
def left(engine, switch, tmp_path, servers):
    """Returns what there is of servers on the host."""

    def devices():
        with IPRoute() as links:
            return {
                link.get("ifname")
                for link in links.get_links()
                if link.get("ifalias") in servers
            }

    def files():
        drives = tmp_path / "docker-config-drives"
        return set(os.listdir(drives)) if drives.exists() else set()

    def root_of(kind):
        root = pathlib.Path(engine.client.info()["DockerRootDir"])
        return set(os.listdir(root / kind))

    def mounts():
        root = engine.client.info()["DockerRootDir"]
        points = (part.mountpoint for part in psutil.disk_partitions(all=True))
        return {point for point in points if point.startswith(f"{root}/")}

    def images():
        found = engine.client.list_images()
        tags = {tag for image in found for tag in image["RepoTags"] or [NO_TAG]}
        # Images of Glance stay until Nova's image cache removes them.
        return {tag for tag in tags if not tag.startswith("nova-glance/")}

    def look():
        return {
            "devices": devices(),
            "config drives": files(),
            "container directories": root_of("containers"),
            "layers": root_of("image/overlay2/layerdb/mounts"),
            "mounts": mounts(),
            "images": images(),
            "switch": switch.ports(),
        }

    return look


@pytest.mark.parametrize("verb", kills.PREPARED)
def test_nova_compute_is_killed_at_each_step(
    verb, make_case, left, images, nothing_is_left
):
    prepared = getattr(kills, kills.PREPARED[verb])
    case = make_case()
    steps = kills.run(case, prepared, verb=verb)
    kills.run(case, Compute.delete)
    before = left()
    failures = {}
    for number, step in enumerate(steps, 1):
        for index, when in enumerate(kills.WHEN):
            if not ALL and (number + index) % 5:
                continue
            case = make_case()
            again = when != "during"
            recover = functools.partial(kills.recovered, verb=verb, again=again)
            try:
                kills.run(case, prepared, verb=verb, kill=Kill(number, when))
                recorded = kills.VM_STATES.get(verb, vm_states.ACTIVE)
                kills.run(case, recover, vm_state=recorded)
                assert left() == before
            except AssertionError as error:
                failures[f"{when} step {number}, {step}"] = str(error)
                with contextlib.suppress(AssertionError):
                    kills.run(case, Compute.delete)
    assert steps and not failures, "\n\n".join(map("\n".join, failures.items()))
