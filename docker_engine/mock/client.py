# SPDX-License-Identifier: Apache-2.0
"""The engine in memory, for fake mode and for tests that must be fast.

:class:`MockDockerClient` has the methods of
:class:`docker_engine.client.DockerClient` and behaves as an engine does wherever
its users look. The same contract tests run against both, so that it cannot drift.
It runs no processes: :meth:`MockDockerClient.exit` and
:meth:`MockDockerClient.write` act for a container's first process.
"""

from __future__ import annotations

from docker_engine.mock.checkpoints import MockCheckpoints
from docker_engine.mock.containers import MockContainers
from docker_engine.mock.exec import MockExec
from docker_engine.mock.images import MockImages
from docker_engine.mock.state import RUNNING
from docker_engine.mock.system import MockSystem


class MockDockerClient(
    MockSystem, MockContainers, MockExec, MockCheckpoints, MockImages
):
    """A mock of one engine; see :class:`docker_engine.client.DockerClient`."""

    def exit(self, ref: str, code: int = 0) -> None:
        """End a container's first process, as a test may want."""
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in RUNNING:
                self._stopped(container, code)

    def write(self, ref: str, output: bytes) -> None:
        """Write output of a container's first process."""
        self._logs[self._find(ref)["Id"]] += output
