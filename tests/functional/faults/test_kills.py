# SPDX-License-Identifier: Apache-2.0
"""nova-compute is killed at each step of a verb, and starts again.

Afterwards the server is what Nova takes it for, trying again or deleting it works, and
nothing of it is left.
"""

from __future__ import annotations

import contextlib
import functools
import os

import pytest
from nova.compute import vm_states

from docker_engine import errors
from nova_docker.image.store import tag_of
from tests import archives
from tests import samples
from tests.functional import ovs
from tests.functional.faults import kills
from tests.functional.faults import leftovers
from tests.functional.faults.kills import Case
from tests.functional.faults.kills import Compute
from tests.functional.faults.kills import Kill
from tests.functional.faults.leftovers import Inventory

# All steps take some minutes: `tox -e kills`.
ALL = bool(os.environ.get("NOVA_DOCKER_ALL_KILLS"))


@pytest.fixture
def make_case(engine, switch, configuration, tmp_path):
    """Describes a new server, with images of its own."""

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
        return Case(engine.host, switch.connection, str(tmp_path), images, vif)

    return make


@pytest.fixture
def what_is_left(engine, switch, tmp_path):
    """Returns what there is after a case that there was not before the first one."""
    inventory = Inventory(engine, switch, tmp_path)
    before = inventory.take()

    def look(case: Case) -> list[str]:
        for image in case.archives:
            # Otherwise Nova's image cache removes it, a day later.
            with contextlib.suppress(errors.ImageNotFound):
                engine.client.remove_image(tag_of(image))
        devices = {case.vif["devname"]}
        return [
            *leftovers.left(before, inventory.take()),
            *Inventory.of_server(case.uuid, devices),
        ]

    return look


@pytest.mark.parametrize("verb", kills.PREPARED)
def test_nova_compute_is_killed_at_each_step(
    verb, make_case, what_is_left, nothing_is_left
):
    prepared = getattr(kills, kills.PREPARED[verb])
    case = make_case()
    steps = kills.run(case, prepared, verb=verb)
    kills.run(case, Compute.delete)
    assert not what_is_left(case)
    failures = {}
    for number, step in enumerate(steps, 1):
        for index, when in enumerate(kills.WHEN):
            if not ALL and (number + index) % 10:
                continue
            case = make_case()
            again = when != "during"
            recover = functools.partial(kills.recovered, verb=verb, again=again)
            try:
                kills.run(case, prepared, verb=verb, kill=Kill(number, when))
                recorded = kills.VM_STATES.get(verb, vm_states.ACTIVE)
                kills.run(case, recover, vm_state=recorded)
                assert not what_is_left(case)
            except AssertionError as error:
                failures[f"{when} step {number}, {step}"] = str(error)
                with contextlib.suppress(AssertionError):
                    kills.run(case, Compute.delete)
                what_is_left(case)
    assert steps and not failures, "\n\n".join(map("\n".join, failures.items()))
