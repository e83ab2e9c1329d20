# SPDX-License-Identifier: Apache-2.0
"""Anonymous volumes: which container has them, and what remains of it."""

from __future__ import annotations

import pytest

from docker_engine import errors
from tests.contract.helpers import LABEL
from tests.contract.helpers import config

FILTERS = {"label": [LABEL]}


@pytest.fixture
def container(client):
    """A container with a volume that has a label."""
    options = {"NoCopy": True, "Labels": {LABEL: "1"}}
    mount = {"Type": "volume", "Target": "/data", "VolumeOptions": options}
    host_config = {"NetworkMode": "none", "Mounts": [mount]}
    return client.create_container("data", config(HostConfig=host_config))


def names(client, **filters):
    return [found["Name"] for found in client.list_volumes(FILTERS | filters)]


def test_a_container_keeps_its_volume(client, container):
    [mount] = client.inspect_container(container)["Mounts"]
    assert names(client) == [mount["Name"]]
    assert names(client, dangling=["true"]) == []
    with pytest.raises(errors.Conflict):
        client.remove_volume(mount["Name"])
    client.remove_container(container)
    assert names(client) == []


def test_a_volume_that_a_container_has_left_can_be_removed(client, container):
    client.remove_container(container, volumes=False)
    [name] = names(client, dangling=["true"])
    client.remove_volume(name)
    assert names(client) == []
    with pytest.raises(errors.VolumeNotFound):
        client.remove_volume(name)


def test_volumes_are_chosen_by_their_labels(client, container):
    assert client.list_volumes({"label": ["other"]}) == []
