# SPDX-License-Identifier: Apache-2.0
"""The engine's disk is full: what fails leaves nothing, and what is needed works."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile

import pytest
from nova import exception
from nova.compute import power_state

from tests import samples
from tests.engine import Engine
from tests.functional.host import Server
from tests.functional.host import state

SIZE_MB = 48
FILL = "dd if=/dev/zero of=/filling bs=1M || true"


@pytest.fixture(scope="module")
def small_engine():
    """An engine whose data is on a small file system of its own."""
    with tempfile.TemporaryDirectory(prefix="nd-") as name:
        disk = pathlib.Path(name, "disk")
        with disk.open("wb") as file:
            file.truncate(SIZE_MB * 2**20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
        engine = Engine(pathlib.Path(tempfile.mkdtemp(prefix="nd-", dir="/tmp")))
        data = engine.programs.parent / "data"
        data.mkdir()
        subprocess.run(["mount", "-o", "loop", disk, data], check=True)
        os.chmod(data.parent, 0o711)
        try:
            engine.start()
            yield engine
        finally:
            engine.destroy()


@pytest.fixture
def driver(configure, make_driver, small_engine):
    configure("host", small_engine.host)
    return make_driver()


@pytest.fixture
def servers(driver, small_engine, image, nic, glance):
    """Boots servers on the small engine."""
    booted = []

    def boot(image_meta=None, **values):
        vif = nic(samples.subnet("192.0.2.0/24", f"192.0.2.{100 + len(booted)}"))
        server = Server(samples.instance(**values), samples.nics(vif), small_engine)
        booted.append(server)
        driver.spawn(
            samples.request_context(),
            server.instance,
            image_meta or image(),
            [],
            None,
            {},
            server.network_info,
        )
        return server

    yield boot
    for server in booted:
        driver.destroy(None, server.instance, server.network_info)


@pytest.fixture
def left(small_engine, switch):
    def look():
        found = small_engine.client.list_images()
        return {
            "containers": {c["Id"] for c in small_engine.client.list_containers()},
            "images": {item["Id"] for item in found},
            "ports": switch.ports(),
        }

    return look


@pytest.fixture
def full(servers):
    """A server that has filled the disk."""
    server = servers()
    server.run(FILL)
    return server


def test_a_boot_on_a_full_disk_leaves_nothing(full, servers, image, left):
    before = left()
    new = image(files={"large": os.urandom(8 * 2**20)})
    with pytest.raises(exception.NovaException, match="are free"):
        servers(new)
    assert left() == before


def test_a_snapshot_on_a_full_disk_leaves_nothing(full, driver, left):
    before = left()
    with pytest.raises(exception.NovaException):
        driver.snapshot(
            samples.request_context(),
            full.instance,
            samples.uuid(),
            lambda **states: None,
        )
    assert left() == before
    assert state(driver, full) == power_state.RUNNING


def test_servers_stop_and_start_on_a_full_disk(full, driver):
    driver.power_off(full.instance, 0)
    assert state(driver, full) == power_state.SHUTDOWN
    driver.power_on(None, full.instance, full.network_info)
    assert state(driver, full) == power_state.RUNNING


def test_deleting_a_server_makes_space_again(full, driver, servers, image):
    driver.destroy(None, full.instance, full.network_info)
    assert full.instance.uuid not in driver.list_instance_uuids()
    servers(image(files={"large": os.urandom(8 * 2**20)}))


def test_nova_compute_starts_on_a_full_disk(full, make_driver):
    restarted = make_driver()
    assert state(restarted, full) == power_state.RUNNING
