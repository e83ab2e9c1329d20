# SPDX-License-Identifier: Apache-2.0
"""Volumes on a real engine, with loop devices through os-brick's local connector."""

from __future__ import annotations

import subprocess

import pytest

from nova_docker.container import isolation
from tests import samples
from tests.functional import loops

LEVELS = (isolation.USER, isolation.SHARED)


@pytest.fixture(params=LEVELS)
def level(request):
    return request.param


@pytest.fixture
def volume(tmp_path):
    with loops.made(tmp_path / "volume") as volume:
        yield volume


@pytest.fixture
def flavor(level):
    return samples.flavor(extra_specs={"docker:isolation": level})


def attach(driver, server, volume, mountpoint="/dev/vdb", **data):
    connection_info = volume.connection_info(**data)
    driver.attach_volume(None, connection_info, server.instance, mountpoint)
    return connection_info


def write(server, text, device="/dev/vdb"):
    server.run(f"printf {text} | dd of={device} conv=fsync,notrunc")


def test_a_running_server_gets_a_volume_and_loses_it(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    pid = server.pid
    connection_info = attach(driver, server, volume)
    write(server, "hello")
    assert volume.read() == b"hello"
    driver.detach_volume(None, connection_info, server.instance, "/dev/vdb")
    with pytest.raises(subprocess.CalledProcessError):
        server.run("ls /dev/vdb")
    assert server.pid == pid
