# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.exec`."""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Mapping
from typing import Any

from docker_engine import errors
from docker_engine.mock.state import MockState
from docker_engine.mock.terminal import echo


class MockExec(MockState):
    def create_exec(self, ref: str, config: Mapping[str, Any]) -> str:
        self._call("create_exec")
        with self._lock:
            container = self._running(ref)
            if container["State"]["Paused"]:
                raise errors.for_status(409, f"Container {ref} is paused")
            exec_id = hashlib.sha256(f"{ref}{time.time_ns()}".encode()).hexdigest()
            self._execs[exec_id] = {
                "ID": exec_id,
                "ContainerID": container["Id"],
                "Running": False,
                "ExitCode": None,
                "Pid": 0,
            }
        return exec_id

    def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        self._call("inspect_exec")
        return dict(self._exec(exec_id))

    def start_exec(self, exec_id: str, *, tty: bool) -> socket.socket:
        self._call("start_exec")
        state = self._exec(exec_id)

        def end() -> None:
            state.update(Running=False, ExitCode=0)

        state.update(Running=True, Pid=next(self._pids))
        return echo(end)

    def resize_exec(self, exec_id: str, rows: int, columns: int) -> None:
        self._call("resize_exec")
        self._exec(exec_id)
