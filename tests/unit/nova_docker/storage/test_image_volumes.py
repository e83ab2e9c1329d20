# SPDX-License-Identifier: Apache-2.0
"""The volumes that an image declares."""

from __future__ import annotations

import pytest
from nova import exception

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.container import naming
from nova_docker.errors import EngineTimeout
from nova_docker.storage import image_volumes
from nova_docker.storage import mounts
from tests import archives
from tests import samples

DRIVE = mounts.read_only_directory("/srv/drive", "/seed/config_drive")


@pytest.fixture
def instance():
    return samples.instance()


@pytest.fixture
def client(instance):
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["image:latest"])])
    mock.create_container(naming.name_of(instance.uuid), {"Image": "image:latest"})
    return mock


def test_each_volume_gets_a_mount_unless_there_is_one():
    found = image_volumes.placeholders(["/data", "/seed/config_drive"], [DRIVE])
    assert found == [{"Type": "tmpfs", "Target": "/data"}]


def test_directories_that_the_image_lacks_are_created(client, instance):
    name = naming.name_of(instance.uuid)
    client.put_archive(name, "/", archives.tar({"old": b"kept"}))
    paths = ["/data", "/old", "/seed/config_drive", "/seed/config_drive/x", "/seed/y"]

    image_volumes.create_directories(client, instance, paths, [DRIVE])

    assert client.has_path(name, "/data") and client.has_path(name, "/seed/y")
    assert b"kept" in client.get_archive(name, "/old", max_size=20480)
    # What is below another mount would be created in it.
    assert not client.has_path(name, "/seed/config_drive")
    assert not client.has_path(name, "/seed/config_drive/x")


def test_nothing_is_created_if_nothing_is_missing(client, instance):
    client.fail_next("put_archive", AssertionError("there is nothing to create"))
    image_volumes.create_directories(client, instance, [], [DRIVE])


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (errors.for_status(500, "not a directory"), exception.ImageUnacceptable),
        (errors.Timeout("no answer in time"), EngineTimeout),
    ],
)
def test_an_image_without_a_place_for_them_is_unacceptable(
    client, instance, error, raised
):
    client.fail_next("put_archive", error)
    with pytest.raises(raised, match=error.message) as failure:
        image_volumes.create_directories(client, instance, ["/data"], [])
    assert type(failure.value) is raised
