# SPDX-License-Identifier: Apache-2.0
"""Each test runs with the mock, and with a real engine where one may be had.

The real one needs root and dockerd: ``tox -e functional`` asks for it, and
``tox -e unit`` does not, by the environment variable NOVA_DOCKER_ENGINE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from nova_docker.client import DockerClient
from nova_docker.mock_client import MockDockerClient
from tests import archives
from tests.conftest import IMAGE

CLIENTS = ["mock", "real"] if os.environ.get("NOVA_DOCKER_ENGINE") else ["mock"]


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "real":
        real: DockerClient = request.getfixturevalue("engine").client
        yield real
        for found in real.list_containers():
            real.remove_container(found["Id"])
        return
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=[IMAGE])])
    yield mock
