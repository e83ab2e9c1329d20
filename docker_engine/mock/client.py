# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, for fake mode and for fast tests.

:class:`MockDockerClient` has the methods of :class:`docker_engine.client.DockerClient`
and mimics an engine as far as its users rely on it. The same contract tests run against
the mock and real engines. It runs no processes: :meth:`MockDockerClient.exit` and
:meth:`MockDockerClient.write` act in place of a container's first process.
"""

from __future__ import annotations

from docker_engine.mock.checkpoints import MockCheckpoints
from docker_engine.mock.containers import MockContainers
from docker_engine.mock.exec import MockExec
from docker_engine.mock.images import MockImages
from docker_engine.mock.state import RUNNING
from docker_engine.mock.system import MockSystem
from docker_engine.mock.volumes import MockVolumes


class MockDockerClient(
    MockSystem, MockContainers, MockExec, MockCheckpoints, MockImages, MockVolumes
):
    """A mock of one engine; see :class:`docker_engine.client.DockerClient`."""

    def exit(self, ref: str, code: int = 0) -> None:
        """End the first process of a container, for tests."""
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in RUNNING:
                self._stopped(container, code)

    def write(self, ref: str, output: bytes) -> None:
        """Append to the output of a container's first process, for tests."""
        self._logs[self._find(ref)["Id"]] += output
