# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.system`."""

from __future__ import annotations

from typing import Any

from docker_engine.api.base import Filters
from docker_engine.mock.events import MockEventStream
from docker_engine.mock.filters import check_filters
from docker_engine.mock.state import MockState
from docker_engine.transport.http import MIN_API_VERSION


class MockSystem(MockState):
    @property
    def api_version(self) -> str:
        return MIN_API_VERSION

    def ping(self) -> None:
        self._call("ping")

    def version(self) -> dict[str, Any]:
        self._call("version")
        return {
            "Version": "20.10.24",
            "ApiVersion": MIN_API_VERSION,
            "MinAPIVersion": "1.12",
            "Os": "linux",
            "Arch": "amd64",
        }

    def info(self) -> dict[str, Any]:
        self._call("info")
        return {
            "ID": "MOCK",
            "Name": "mock",
            "ServerVersion": "20.10.24",
            "Architecture": "x86_64",
            "OSType": "linux",
            "NCPU": 8,
            "SwapLimit": True,
            "MemTotal": 16 * 2**30,
            "Driver": "overlay2",
            "ExperimentalBuild": True,
            "DockerRootDir": "/",
            "Runtimes": {"runc": {"path": "runc"}, "nova": {"path": "nova"}},
            "Containers": len(self._containers),
        }

    def events(
        self,
        *,
        since: float | None = None,
        filters: Filters | None = None,
    ) -> MockEventStream:
        self._call("events")
        check_filters(filters, "container", "event", "label", "type")
        with self._lock:
            stream = MockEventStream(filters or {})
            if since is not None:
                for event in self._history:
                    if event["timeNano"] >= since * 1e9:
                        stream.put(event)
            self._streams.append(stream)
        return stream
