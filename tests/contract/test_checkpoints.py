# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: writing a container's processes to disk, and restoring them."""

from __future__ import annotations

import contextlib
import time

import pytest

from docker_engine import errors
from tests.contract.helpers import TIMEOUT
from tests.contract.helpers import status


@pytest.mark.usefixtures("with_criu")
def test_a_checkpoint_stops_a_container_and_restores_it(client, container):
    # Which error it is depends on the engine's version.
    with pytest.raises(errors.DockerError, match="not running"):
        client.create_checkpoint(container, "one")
    with pytest.raises(errors.EngineError, match="does not exist"):
        client.start_container(container, checkpoint="one")
    assert client.list_checkpoints(container) == []

    client.start_container(container)
    client.create_checkpoint(container, "one")
    assert status(client, container) == "exited"
    assert client.list_checkpoints(container) == ["one"]

    def runs_on():
        # An engine may not have removed its own copy yet, see Guest.restore.
        with contextlib.suppress(errors.EngineError):
            client.start_container(container, checkpoint="one")
        return status(client, container) == "running"

    deadline = time.monotonic() + 9 * TIMEOUT
    while not runs_on() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status(client, container) == "running"

    client.delete_checkpoint(container, "one")
    assert client.list_checkpoints(container) == []
    with pytest.raises(errors.EngineError, match="does not exist"):
        client.delete_checkpoint(container, "one")
