# SPDX-License-Identifier: Apache-2.0
"""Volumes of rescue containers that an engine has left."""

from __future__ import annotations

import pytest

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker import rescue
from nova_docker.storage import mounts
from tests import archives
from tests.conftest import IMAGE


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=[IMAGE])])
    for name, label in (("rescue", rescue.LABEL), ("other", "other")):
        mount = mounts.overlay_volume("lowerdir=/a", "/mnt", {label: ""})
        config = {"Image": IMAGE, "HostConfig": {"Mounts": [mount]}}
        mock.create_container(name, config)
    return mock


def test_a_volume_that_no_rescue_container_has_is_removed(client):
    for name in ("rescue", "other"):
        client.remove_container(name, volumes=False)
    rescue.sweep(client)
    assert [found["Labels"] for found in client.list_volumes()] == [{"other": ""}]


def test_the_volume_of_a_rescue_container_stays(client):
    rescue.sweep(client)
    assert len(client.list_volumes()) == 2


def test_a_volume_that_the_engine_takes_to_be_mounted_is_left_for_later(client):
    client.remove_container("rescue", volumes=False)
    client.fail_next("remove_volume", errors.Conflict("volume has active mounts", 409))
    rescue.sweep(client)
    assert len(client.list_volumes()) == 2
    rescue.sweep(client)
    assert len(client.list_volumes()) == 1


def test_an_engine_that_fails_disturbs_nobody(client, caplog):
    client.fail_next("list_volumes", errors.EngineError("broken", 500))
    rescue.sweep(client)
    assert "broken" in caplog.text
