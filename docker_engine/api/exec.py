# SPDX-License-Identifier: Apache-2.0
"""Commands that run in a container beside its first process."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from docker_engine import errors
from docker_engine.api.base import Endpoints
from docker_engine.api.base import path
from docker_engine.transport.http import parsed


class ExecAPI(Endpoints):
    """Endpoints under "Exec".

    All but the first raise :class:`errors.ExecNotFound` if there is no such exec.
    """

    def create_exec(self, ref: str, config: Mapping[str, Any]) -> str:
        """POST /containers/{ref}/exec: prepare a command

        :param config: the request's body
        :returns: the exec's id
        :raises Conflict: if the container is paused or not running
        :raises ContainerNotFound: if there is no such container
        """
        answer = self._transport.request(
            "POST",
            path("containers", ref, "exec"),
            json=config,
            missing=errors.ContainerNotFound,
            repeat=False,
        )
        return parsed(answer)["Id"]

    def inspect_exec(self, exec_id: str) -> dict[str, Any]:
        """GET /exec/{exec_id}/json"""
        return self._transport.get(
            path("exec", exec_id, "json"), missing=errors.ExecNotFound
        )

    def start_exec(self, exec_id: str, *, tty: bool) -> socket.socket:
        """POST /exec/{exec_id}/start

        :returns: the command's input and output; without a terminal its output is
            framed (:mod:`docker_engine.streams.frames`)
        """
        return self._transport.hijack(
            path("exec", exec_id, "start"),
            json={"Detach": False, "Tty": tty},
            missing=errors.ExecNotFound,
        )

    def resize_exec(self, exec_id: str, rows: int, columns: int) -> None:
        """POST /exec/{exec_id}/resize: resize its terminal"""
        self._transport.request(
            "POST",
            path("exec", exec_id, "resize"),
            {"h": str(rows), "w": str(columns)},
            missing=errors.ExecNotFound,
        )
