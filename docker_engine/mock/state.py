# SPDX-License-Identifier: Apache-2.0
"""State of the mock engine: containers, images, execs, volumes, events and more."""

from __future__ import annotations

import itertools
import tarfile
import threading
import time
from collections.abc import Mapping
from typing import Any

from docker_engine import errors
from docker_engine.mock import formats
from docker_engine.mock.events import MockEventStream
from docker_engine.transport.tls import TLSConfig

RUNNING = ("running", "paused")


class MockState:
    """The state that the divisions of the mock share, with look-ups and changes."""

    def __init__(
        self,
        host: str = "unix:///var/run/docker.sock",
        *,
        tls: TLSConfig | None = None,
        connect_timeout: float = 5,
        read_timeout: float = 60,
    ) -> None:
        self.host = host
        self._containers: dict[str, dict[str, Any]] = {}
        self._logs: dict[str, bytes] = {}
        self._files: dict[str, dict[str, tuple[tarfile.TarInfo, bytes | None]]] = {}
        self._execs: dict[str, dict[str, Any]] = {}
        self._images: dict[str, dict[str, Any]] = {}
        # By image id: the configuration and the layers.
        self._saved: dict[str, tuple[bytes, list[bytes]]] = {}
        self._history: list[dict[str, Any]] = []
        self._streams: list[MockEventStream] = []
        self._checkpoints: dict[str, set[str]] = {}
        # Labels of each anonymous volume
        self._volumes: dict[str, dict[str, str]] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._pids = itertools.count(1000)
        #: Images in a registry: archives by ``repository@sha256:…``, for tests to set
        self.registry: dict[str, bytes] = {}
        self._lock = threading.RLock()

    def fail_next(self, method: str, error: Exception) -> None:
        """Make the next call of a method raise an error instead, for tests."""
        self._failures.setdefault(getattr(self, method).__name__, []).append(error)

    def _call(self, method: str) -> None:
        if pending := self._failures.get(method):
            raise pending.pop(0)

    def _refuse_taken(self, name: str) -> None:
        if any(c["Name"] == f"/{name}" for c in self._containers.values()):
            raise errors.for_status(
                409, f'Conflict. The container name "/{name}" is already in use'
            )

    def _exec(self, exec_id: str) -> dict[str, Any]:
        try:
            return self._execs[exec_id]
        except KeyError:
            raise errors.for_status(
                404,
                f"No such exec instance: {exec_id}",
                missing=errors.ExecNotFound,
            ) from None

    def _find(self, ref: str) -> dict[str, Any]:
        for container in self._containers.values():
            if container["Id"].startswith(ref) or container["Name"] == f"/{ref}":
                return container
        raise errors.for_status(
            404, f"No such container: {ref}", missing=errors.ContainerNotFound
        )

    def _used_volumes(self) -> set[str]:
        return {
            mount["Name"]
            for container in self._containers.values()
            for mount in container["Mounts"]
            if mount["Type"] == "volume"
        }

    def _running(self, ref: str) -> dict[str, Any]:
        container = self._find(ref)
        if container["State"]["Status"] not in RUNNING:
            raise errors.for_status(409, f"Container {ref} is not running")
        return container

    def _check_checkpoint(self, container: Mapping[str, Any], checkpoint: str) -> None:
        if checkpoint not in self._checkpoints.get(container["Id"], ()):
            raise errors.for_status(
                500,
                f"checkpoint {checkpoint} does not exist for container "
                f"{container['Name']}",
            )

    def _find_image(self, ref: str) -> dict[str, Any]:
        prefix = "sha256:" + ref.removeprefix("sha256:")
        for image in self._images.values():
            if (
                formats.with_tag(ref) in image["RepoTags"]
                or ref in image["RepoDigests"]
                or image["Id"].startswith(prefix)
            ):
                return image
        raise errors.for_status(
            404, f"No such image: {ref}", missing=errors.ImageNotFound
        )

    def _add(self, config: bytes, layers: list[bytes]) -> dict[str, Any]:
        image = formats.image(config)
        image = self._images.setdefault(image["Id"], image)
        self._saved[image["Id"]] = (config, layers)
        return image

    def _tag(self, image: dict[str, Any], tag: str) -> None:
        for other in self._images.values():
            if tag in other["RepoTags"]:
                other["RepoTags"].remove(tag)
        image["RepoTags"].append(tag)

    def _start(self, container: dict[str, Any]) -> None:
        if not container["State"]["Running"]:
            container["State"].update(
                Status="running",
                Running=True,
                Pid=next(self._pids),
                ExitCode=0,
                StartedAt=formats.now(),
            )
            self._emit(container, "start")

    def _stop(self, container: dict[str, Any]) -> None:
        if container["State"]["Running"]:
            self._emit(container, "kill")
            self._stopped(container, 137)
            self._emit(container, "stop")

    def _stopped(self, container: dict[str, Any], code: int) -> None:
        container["State"].update(
            Status="exited",
            Running=False,
            Paused=False,
            Pid=0,
            ExitCode=code,
            FinishedAt=formats.now(),
        )
        self._emit(container, "die", exitCode=str(code))

    def _emit(
        self, container: Mapping[str, Any], action: str, **attributes: str
    ) -> None:
        self._publish(
            "container",
            action,
            container["Id"],
            {
                "name": container["Name"].lstrip("/"),
                "image": container["Config"]["Image"],
                **container["Config"]["Labels"],
                **attributes,
            },
        )

    def _emit_image(self, action: str, actor: str, name: str | None = None) -> None:
        self._publish("image", action, actor, {"name": name or actor})

    def _publish(
        self, kind: str, action: str, actor: str, attributes: dict[str, str]
    ) -> None:
        now = time.time_ns()
        event = {
            "Type": kind,
            "Action": action,
            "Actor": {"ID": actor, "Attributes": attributes},
            "time": now // 10**9,
            "timeNano": now,
        }
        self._history.append(event)
        self._streams = [stream for stream in self._streams if stream.put(event)]
