# SPDX-License-Identifier: Apache-2.0
"""Each test runs with the mock, and with a real engine if one is requested.

``tox -e functional`` requests a real engine, which needs root and dockerd, with the
environment variable NOVA_DOCKER_ENGINE.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from docker_engine.client import DockerClient
from docker_engine.mock.client import MockDockerClient
from tests import archives
from tests import criu
from tests.conftest import IMAGE
from tests.contract.helpers import TIMEOUT
from tests.contract.helpers import config

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


@pytest.fixture
def with_criu(client: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    """The engine has CRIU; the mock needs none."""
    if isinstance(client, MockDockerClient):
        yield
        return
    engine = request.getfixturevalue("engine")
    criu.skip_if_nothing_is_restored(engine)
    programs = engine.programs
    program = criu.install(request.getfixturevalue("criu_tree"), programs)
    yield
    program.unlink()


@pytest.fixture
def run(client: Any) -> Callable[..., str]:
    """Runs a container until it exits, and returns its id."""

    def play(output: bytes = b"", code: int = 0, **config: Any) -> str:
        script = "".join(f"\\{byte:03o}" for byte in output)
        container: str = client.create_container(
            "played",
            {
                "Image": IMAGE,
                "Cmd": ["sh", "-c", f"printf '{script}'; exit {code}"],
                "HostConfig": {"NetworkMode": "none"},
                **config,
            },
        )
        client.start_container(container)
        if isinstance(client, MockDockerClient):
            tty = config.get("Tty")
            client.write(container, output.replace(b"\n", b"\r\n") if tty else output)
            client.exit(container, code)
        deadline = time.monotonic() + TIMEOUT
        while client.inspect_container(container)["State"]["Status"] != "exited":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return container

    return play


@pytest.fixture
def container(client: Any) -> str:
    """A container that has not been started."""
    created: str = client.create_container("nova-1", config())
    return created
