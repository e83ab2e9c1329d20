# SPDX-License-Identifier: Apache-2.0
"""Each verb on an engine whose calls fail: nothing is lost, and nothing is left.

The short form runs with the functional tests. With NOVA_DOCKER_FAULTS=1, the whole
matrix runs and writes the table of the documentation.
"""

from __future__ import annotations

import logging
import os
import pathlib

import pytest

from nova_docker import config_drive
from tests import archives
from tests import criu
from tests import samples
from tests.functional import host
from tests.functional.faults import matrix
from tests.functional.faults import proxy as proxies
from tests.functional.faults.leftovers import Inventory
from tests.functional.faults.nova import Manager
from tests.functional.faults.nova import Server

LOG = logging.getLogger(__name__)

WHOLE = os.environ.get("NOVA_DOCKER_FAULTS") == "1"
TABLE = pathlib.Path(__file__).parents[3] / "doc/source/admin/faults.csv"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtleQ== someone"
DRIVE = {"openstack/latest/meta_data.json": b'{"uuid": "1", "hostname": "web"}'}
CHPASSWD = b"#!/bin/sh\ncat > /set\n"
# A shell ignores the usual signal, and each stop would take the whole grace period.
KILLED = {"StopSignal": "SIGKILL"}


@pytest.fixture
def proxy(engine):
    with proxies.running(
        engine.host.removeprefix("unix://"), engine.programs.parent
    ) as p:
        yield p


@pytest.fixture
def faults(
    engine, switch, configuration, configure, glance, nic, proxy, monkeypatch, mocker
):
    """The matrix, on a healthy and a faulty driver of the same engine."""
    host.without_openstack(monkeypatch, glance)
    configure("inject_password", True)
    host.CONF.set_override("shutdown_timeout", 1)
    host.CONF.set_override(
        "remove_unused_original_minimum_age_seconds", 0, "image_cache"
    )
    monkeypatch.setattr(config_drive, "_contents", lambda *args: DRIVE)
    glance.archives[matrix.SHARED_IMAGE] = archives.busybox_archive(config=KILLED)
    servers = {}
    mocker.patch(
        "nova.objects.Instance.get_network_info",
        autospec=True,
        side_effect=lambda instance: servers[instance.uuid].network_info,
    )

    def new_server(own_image, on_disk):
        """Return a new server: with an image of its own, everything is injected."""
        uuid = samples.uuid()
        image_meta = samples.image_meta(
            id=samples.uuid() if own_image else matrix.SHARED_IMAGE
        )
        extra_specs = {"docker:isolation": "shared"} if on_disk else {}
        values = {"flavor": samples.flavor(extra_specs=extra_specs)}
        if own_image:
            config = KILLED | {"Env": ["PATH=/bin", f"OWN={uuid}"]}
            glance.archives[image_meta.id] = archives.busybox_archive(
                files={"usr/sbin/chpasswd": CHPASSWD}, config=config
            )
            values |= {"config_drive": "True", "key_data": KEY}
        server = Server(
            samples.instance(uuid=uuid, image_ref=image_meta.id, **values),
            samples.nics(nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))),
            image_meta,
            [(matrix.MARKER, uuid.encode())],
            nic(samples.subnet("203.0.113.0/24", "203.0.113.5")),
        )
        servers[uuid] = server
        return server

    healthy, faulty = map(Manager, (engine.client, proxy.client))
    first = new_server(False, False)
    healthy.boot(first)
    healthy.delete(first)
    state = pathlib.Path(host.CONF.state_path)
    yield matrix.Matrix(
        engine.client,
        proxy,
        healthy,
        faulty,
        Inventory(engine, switch, state),
        new_server,
    )
    for manager in (healthy, faulty):
        manager.close()
    host.CONF.clear_override("shutdown_timeout")
    host.CONF.clear_override(
        "remove_unused_original_minimum_age_seconds", "image_cache"
    )


@pytest.fixture(scope="module")
def table():
    """Outcomes by cell, which are written to the documentation."""
    outcomes = {}
    yield outcomes
    if outcomes:
        matrix.write_table(outcomes, TABLE)


@pytest.fixture
def criu_program(engine, criu_tree, monkeypatch):
    """CRIU, in the PATH of the engine and of the driver."""
    criu.skip_if_nothing_is_restored(engine)
    monkeypatch.setenv("PATH", str(engine.programs), prepend=":")
    installed = criu.install(criu_tree, engine.programs)
    yield
    installed.unlink()


def check(faults, cells):
    """Run cells, whatever becomes of those before, and return the outcomes."""
    outcomes = {}
    for cell in cells:
        outcomes[cell] = outcome = faults.run(cell.verb, cell)
        LOG.info("%s: %s", cell, outcome)
    return outcomes


def bad(outcomes):
    return [f"{cell}: {one.problems}" for cell, one in outcomes.items() if one.problems]


@pytest.mark.skipif(WHOLE, reason="the whole matrix runs")
def test_a_failing_call_loses_and_leaves_nothing(faults, images):
    verbs = [verb for verb in matrix.VERBS if not verb.on_disk]
    assert not bad(check(faults, matrix.short(faults.cells(verbs))))


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not WHOLE, reason="tox -e faults runs the whole matrix")
@pytest.mark.parametrize("verb", matrix.VERBS, ids=lambda verb: verb.name)
def test_a_verb_loses_and_leaves_nothing(request, faults, images, table, verb):
    if verb.on_disk:
        request.getfixturevalue("criu_program")
    outcomes = check(faults, faults.cells([verb]))
    table.update(outcomes)
    assert not bad(outcomes)
