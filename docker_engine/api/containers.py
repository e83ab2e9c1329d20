# SPDX-License-Identifier: Apache-2.0
"""Containers: their life, limits, files and output."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import requests

from docker_engine import errors
from docker_engine.api.base import Endpoints
from docker_engine.api.base import Filters
from docker_engine.api.base import filter_query
from docker_engine.api.base import flag
from docker_engine.api.base import path
from docker_engine.streams import frames
from docker_engine.streams.bytes import ByteStream
from docker_engine.transport.http import LONG_TIMEOUT
from docker_engine.transport.http import parsed

# Seconds in addition to the read timeout while the engine looks at a container's files.
_WALK = 240


class ContainersAPI(Endpoints):
    """Endpoints under "Container", without exec and checkpoints.

    All raise :class:`errors.ContainerNotFound` if there is no such container.
    """

    def list_containers(
        self, *, all: bool = True, filters: Filters | None = None
    ) -> list[dict[str, Any]]:
        """GET /containers/json

        :param all: include containers that are not running
        """
        query = {"all": flag(all), **filter_query(filters)}
        return self._transport.get("/containers/json", query)

    def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        """POST /containers/create

        :param config: the request's body
        :returns: the container's id
        :raises Conflict: if the name is taken
        :raises ImageNotFound: if the engine does not have the image
        """
        answer = self._transport.request(
            "POST",
            "/containers/create",
            {"name": name},
            json=config,
            missing=errors.ImageNotFound,
            repeat=False,
        )
        return parsed(answer)["Id"]

    def inspect_container(
        self, ref: str, *, size: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        """GET /containers/{ref}/json

        The engine answers once nothing else is changing the container, which may be
        never; :meth:`list_containers` does not wait, and may be behind.

        :param size: whether to add ``SizeRw``, the bytes of the container's own files,
            and ``SizeRootFs``, which includes its image. Holes in files count. The
            engine looks at each file, which may take minutes.
        :param timeout: seconds to wait for the answer; None for the usual
        """
        if size and timeout is None:
            timeout = self._transport.read_timeout + _WALK
        query = {"size": "1"} if size else None
        limits = self._within(timeout)
        return parsed(self._call("GET", ref, "json", query, timeout=limits))

    def start_container(self, ref: str, *, checkpoint: str | None = None) -> None:
        """POST /containers/{ref}/start; no effect on a running container

        :param checkpoint: the checkpoint to restore instead of starting afresh
        """
        if checkpoint is None:
            self._call("POST", ref, "start")
        else:
            self._call(
                "POST",
                ref,
                "start",
                {"checkpoint": checkpoint},
                timeout=(self._transport.connect_timeout, LONG_TIMEOUT),
                repeat=False,
            )

    def stop_container(self, ref: str, timeout: int) -> None:
        """POST /containers/{ref}/stop; no effect on a stopped container

        :param timeout: seconds between the stop signal and the kill
        """
        self._call(
            "POST", ref, "stop", {"t": str(timeout)}, timeout=self._with_grace(timeout)
        )

    def restart_container(self, ref: str, timeout: int) -> None:
        """POST /containers/{ref}/restart

        :param timeout: seconds between the stop signal and the kill
        """
        self._call(
            "POST",
            ref,
            "restart",
            {"t": str(timeout)},
            timeout=self._with_grace(timeout),
            repeat=False,
        )

    def kill_container(self, ref: str, signal: str = "KILL") -> None:
        """POST /containers/{ref}/kill

        :raises Conflict: if the container is not running
        """
        self._call("POST", ref, "kill", {"signal": signal}, repeat=False)

    def pause_container(self, ref: str) -> None:
        """POST /containers/{ref}/pause

        :raises Conflict: if the container is paused or not running
        """
        self._call("POST", ref, "pause", repeat=False)

    def unpause_container(self, ref: str, *, timeout: float | None = None) -> None:
        """POST /containers/{ref}/unpause

        :param timeout: seconds to wait, after which the engine may still act; None for
            the usual
        """
        self._call("POST", ref, "unpause", timeout=self._within(timeout), repeat=False)

    def rename_container(self, ref: str, name: str) -> None:
        """POST /containers/{ref}/rename

        :raises Conflict: if the name is taken
        """
        self._call("POST", ref, "rename", {"name": name}, repeat=False)

    def update_container(self, ref: str, limits: Mapping[str, Any]) -> None:
        """POST /containers/{ref}/update: change limits, even while it is running

        :param limits: the request's body
        """
        self._call("POST", ref, "update", json=limits)

    def container_stats(self, ref: str) -> dict[str, Any]:
        """GET /containers/{ref}/stats: current resource usage

        The sections for a container that is not running are empty.
        """
        query = {"stream": "0", "one-shot": "1"}
        return parsed(self._call("GET", ref, "stats", query))

    def remove_container(
        self,
        ref: str,
        *,
        force: bool = True,
        volumes: bool = True,
        timeout: float | None = None,
    ) -> None:
        """DELETE /containers/{ref}

        If the engine is removing it already, waits for that: POST
        /containers/{ref}/wait.

        :param force: kill it if it is running
        :param volumes: also remove its anonymous volumes
        :param timeout: seconds to wait for each call, after which the engine continues
            all the same; None for the usual
        """
        limits = self._within(timeout)
        query = {"force": flag(force), "v": flag(volumes)}
        try:
            self._call("DELETE", ref, None, query, timeout=limits)
        except errors.Conflict as error:
            # For example, a client that was killed has called this before.
            if "already in progress" not in error.message:
                raise
            self._call("POST", ref, "wait", {"condition": "removed"}, timeout=limits)

    def container_logs(self, ref: str, *, tail: int | None = None) -> bytes:
        """GET /containers/{ref}/logs

        :param tail: number of lines from the end; None for all
        :returns: the output of the container's first process. The log driver
            ``local`` keeps every byte; ``json-file`` replaces what is not UTF-8
            by U+FFFD.
        """
        query = {
            "stdout": "1",
            "stderr": "1",
            "tail": "all" if tail is None else str(tail),
        }
        answer = self._call("GET", ref, "logs", query)
        # Output without a terminal is framed, which the header tells since API 1.42.
        kind = answer.headers.get("Content-Type")
        if kind == frames.RAW or (
            kind != frames.MULTIPLEXED and self.inspect_container(ref)["Config"]["Tty"]
        ):
            return answer.content
        return b"".join(frames.frames(answer.content))

    def put_archive(self, ref: str, directory: str, content: bytes) -> None:
        """PUT /containers/{ref}/archive: unpack an archive in a container

        The engine resolves the container's symbolic links inside the container.
        Existing files are replaced.

        :param directory: the existing directory to unpack in
        :param content: a tar archive
        :raises PathNotFound: if there is no such directory
        :raises DockerError: also if a file would replace a directory
        """
        with _path_or_container():
            self._call(
                "PUT",
                ref,
                "archive",
                {"path": directory, "noOverwriteDirNonDir": "1"},
                data=content,
                headers={"Content-Type": "application/x-tar"},
                missing=errors.PathNotFound,
            )

    def has_path(self, ref: str, file: str) -> bool:
        """HEAD /containers/{ref}/archive: whether a file or directory exists

        A symbolic link exists, wherever it leads to. In a container that does not
        exist, no file does.
        """
        try:
            self.stat_path(ref, file)
        except errors.PathNotFound:
            return False
        return True

    def get_archive(self, ref: str, file: str, *, max_size: int) -> bytes:
        """GET /containers/{ref}/archive: a file or directory as a tar archive

        :param max_size: maximum size of the archive in bytes
        :raises PathNotFound: if there is no such file
        :raises DockerError: also if the archive is larger
        """
        with _path_or_container():
            answer = self._call(
                "GET",
                ref,
                "archive",
                {"path": file},
                # Compressed, little could become much more than ``max_size``.
                headers={"Accept-Encoding": "identity"},
                stream=True,
                missing=errors.PathNotFound,
            )
        with contextlib.closing(ByteStream(answer)) as stream:
            content = stream.read(max_size + 1)
        if len(content) > max_size:
            raise errors.DockerError(
                f"the archive of {file} in {ref} is larger than {max_size} bytes"
            )
        return content

    def stat_path(self, ref: str, file: str) -> dict[str, Any]:
        """HEAD /containers/{ref}/archive: describe a file without opening it

        :returns: ``name``, ``size`` in bytes, ``mode`` with the bits of Go's FileMode,
            and for a symbolic link ``linkTarget``: the path to which all its links lead
            inside the container
        :raises PathNotFound: if there is no such file, or no such container: the
            response has no body that could tell them apart
        """
        try:
            answer = self._call(
                "HEAD", ref, "archive", {"path": file}, missing=errors.PathNotFound
            )
        except errors.EngineError as error:
            # The response to HEAD has no message.
            raise errors.EngineError(
                f"the engine cannot look at {file} in {ref}; its log has the reason",
                error.status,
            ) from error
        encoded = answer.headers.get("X-Docker-Container-Path-Stat", "")
        try:
            found: dict[str, Any] = json.loads(base64.b64decode(encoded))
        except ValueError as error:
            raise errors.EngineError(
                f"the engine did not describe {file} in {ref}", answer.status_code
            ) from error
        return found

    def attach_container(self, ref: str, *, detach_keys: str) -> socket.socket:
        """POST /containers/{ref}/attach

        :param detach_keys: key sequence that closes this connection only
        :returns: the terminal of the container's first process
        """
        query = {
            "stream": "1",
            "stdin": "1",
            "stdout": "1",
            "stderr": "1",
            "detachKeys": detach_keys,
        }
        return self._transport.hijack(
            path("containers", ref, "attach"), query, missing=errors.ContainerNotFound
        )

    def resize_container(self, ref: str, rows: int, columns: int) -> None:
        """POST /containers/{ref}/resize: resize its terminal"""
        self._call("POST", ref, "resize", {"h": str(rows), "w": str(columns)})

    def commit_container(
        self,
        ref: str,
        repo: str,
        tag: str,
        config: Mapping[str, Any],
        *,
        pause: bool = True,
    ) -> str:
        """POST /commit: make an image of a container

        If the connection is lost, the engine continues and tags the image.

        :param config: the image's configuration. Values that are not given are the
            container's, down to single variables of ``Env`` and ``Labels``.
        :param pause: whether the engine pauses a running container meanwhile
        :returns: the image's id
        """
        answer = self._transport.request(
            "POST",
            "/commit",
            {"container": ref, "repo": repo, "tag": tag, "pause": flag(pause)},
            json=config,
            missing=errors.ContainerNotFound,
            timeout=(self._transport.connect_timeout, LONG_TIMEOUT),
            repeat=False,
        )
        return parsed(answer)["Id"]

    def _call(
        self,
        method: str,
        ref: str,
        action: str | None,
        query: Mapping[str, str] | None = None,
        *,
        missing: type[errors.NotFound] = errors.ContainerNotFound,
        **options: Any,
    ) -> requests.Response:
        parts = ("containers", ref, action) if action else ("containers", ref)
        return self._transport.request(
            method, path(*parts), query, missing=missing, **options
        )

    def _with_grace(self, seconds: int) -> tuple[float, float]:
        """Return the timeouts for a call that waits for a process to end."""
        transport = self._transport
        return transport.connect_timeout, transport.read_timeout + seconds


@contextlib.contextmanager
def _path_or_container() -> Iterator[None]:
    """Distinguish a missing container from a missing file: both are 404 here."""
    try:
        yield
    except errors.PathNotFound as error:
        if error.message.startswith("No such container"):
            raise errors.ContainerNotFound(error.message, error.status) from error
        raise
