# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, for fake mode and for tests that need speed.

It has the methods of :class:`nova_docker.client.DockerClient` and behaves as
the engine does where the driver looks; the same contract tests run against
both, so that it cannot drift. It runs no process: :meth:`MockDockerClient.exit`
and :meth:`MockDockerClient.write` stand for what a container's process does.
"""

from __future__ import annotations

import copy
import hashlib
import io
import itertools
import json
import queue
import tarfile
import threading
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

from nova_docker import client
from nova_docker import errors

_RUNNING = ("running", "paused")


class MockDockerClient:
    """See :class:`nova_docker.client.DockerClient` for the public methods."""

    def __init__(
        self,
        host: str = "unix:///var/run/docker.sock",
        *,
        tls: client.TLSConfig | None = None,
        connect_timeout: float = 5,
        read_timeout: float = 60,
    ) -> None:
        self.host = host
        self._containers: dict[str, dict[str, Any]] = {}
        self._logs: dict[str, bytes] = {}
        self._images: dict[str, dict[str, Any]] = {}
        self._history: list[dict[str, Any]] = []
        self._streams: list[_MockEventStream] = []
        self._failures: dict[str, list[errors.DockerError]] = {}
        self._pids = itertools.count(1000)
        self._lock = threading.RLock()

    # What a test may make happen

    def fail_next(self, method: str, error: errors.DockerError) -> None:
        """Let the next call of a method raise ``error`` and do nothing."""
        self._failures.setdefault(method, []).append(error)

    def exit(self, ref: str, code: int = 0) -> None:
        """End a container's first process."""
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in _RUNNING:
                self._stopped(container, code)

    def write(self, ref: str, output: bytes) -> None:
        """Let a container's first process write."""
        self._logs[self._find(ref)["Id"]] += output

    # The engine

    @property
    def api_version(self) -> str:
        return client.MIN_API_VERSION

    def ping(self) -> None:
        self._call("ping")

    def version(self) -> dict[str, Any]:
        self._call("version")
        return {"Version": "20.10.24", "ApiVersion": "1.41", "Arch": "amd64"}

    def info(self) -> dict[str, Any]:
        self._call("info")
        return {
            "ID": "MOCK",
            "Name": "mock",
            "ServerVersion": "20.10.24",
            "Architecture": "x86_64",
            "OSType": "linux",
            "NCPU": 8,
            "MemTotal": 16 * 2**30,
            "Driver": "overlay2",
            "DockerRootDir": "/",
            "Runtimes": {"runc": {"path": "runc"}, "nova": {"path": "nova"}},
            "Containers": len(self._containers),
        }

    def events(
        self,
        *,
        since: float | None = None,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> Any:
        self._call("events")
        with self._lock:
            stream = _MockEventStream(filters or {})
            if since is not None:
                for event in self._history:
                    if event["timeNano"] >= since * 1e9:
                        stream.put(event)
            self._streams.append(stream)
        return stream

    # Containers

    def list_containers(
        self,
        *,
        all: bool = True,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[dict[str, Any]]:
        self._call("list_containers")
        wanted = filters or {}
        with self._lock:
            return [
                {
                    "Id": found["Id"],
                    "Names": [found["Name"]],
                    "Image": found["Config"]["Image"],
                    "ImageID": found["Image"],
                    "Labels": dict(found["Config"]["Labels"]),
                    "State": found["State"]["Status"],
                }
                for found in self._containers.values()
                if (all or found["State"]["Status"] in _RUNNING)
                and _has_labels(found["Config"]["Labels"], wanted.get("label", ()))
            ]

    def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        self._call("create_container")
        body = copy.deepcopy(dict(config))
        with self._lock:
            image = self._find_image(body["Image"])
            memory = body.get("HostConfig", {}).get("Memory", 0)
            if 0 < memory < 6 * 2**20:
                raise errors.for_status(400, "Minimum memory limit allowed is 6MB")
            if any(c["Name"] == f"/{name}" for c in self._containers.values()):
                raise errors.for_status(
                    409, f'Conflict. The container name "/{name}" is already in use'
                )
            container_id = hashlib.sha256(
                f"{name}{time.time_ns()}".encode()
            ).hexdigest()
            host_config = body.pop("HostConfig", {})
            self._containers[container_id] = {
                "Id": container_id,
                "Name": f"/{name}",
                "Image": image["Id"],
                "Config": {
                    "Tty": False,
                    "OpenStdin": False,
                    "Labels": {},
                    "Cmd": image["Config"].get("Cmd"),
                    "Entrypoint": image["Config"].get("Entrypoint"),
                    **body,
                },
                "HostConfig": host_config,
                "State": {
                    "Status": "created",
                    "Running": False,
                    "Paused": False,
                    "Pid": 0,
                    "ExitCode": 0,
                    "StartedAt": "0001-01-01T00:00:00Z",
                    "FinishedAt": "0001-01-01T00:00:00Z",
                },
            }
            self._logs[container_id] = b""
            self._emit(self._containers[container_id], "create")
        return container_id

    def inspect_container(self, ref: str) -> dict[str, Any]:
        self._call("inspect_container")
        with self._lock:
            return copy.deepcopy(self._find(ref))

    def start_container(self, ref: str) -> None:
        self._call("start_container")
        with self._lock:
            container = self._find(ref)
            state = container["State"]
            if state["Status"] == "paused":
                raise errors.for_status(
                    409, "cannot start a paused container, try unpause instead"
                )
            if state["Status"] == "running":
                return
            state.update(
                Status="running",
                Running=True,
                Pid=next(self._pids),
                ExitCode=0,
                StartedAt=_now(),
            )
            self._emit(container, "start")

    def stop_container(self, ref: str, timeout: int) -> None:
        self._call("stop_container")
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in _RUNNING:
                self._stopped(container, 137)

    def restart_container(self, ref: str, timeout: int) -> None:
        self._call("restart_container")
        self.stop_container(ref, timeout)
        self.start_container(ref)

    def kill_container(self, ref: str, signal: str = "KILL") -> None:
        self._call("kill_container")
        with self._lock:
            container = self._running(ref)
            if signal in ("KILL", "SIGKILL", "9"):
                self._stopped(container, 137)

    def pause_container(self, ref: str) -> None:
        self._call("pause_container")
        with self._lock:
            container = self._running(ref)
            if container["State"]["Paused"]:
                raise errors.for_status(409, f"Container {ref} is already paused")
            container["State"].update(Status="paused", Paused=True)
            self._emit(container, "pause")

    def unpause_container(self, ref: str) -> None:
        self._call("unpause_container")
        with self._lock:
            container = self._find(ref)
            if not container["State"]["Paused"]:
                raise errors.for_status(500, f"Container {ref} is not paused")
            container["State"].update(Status="running", Paused=False)
            self._emit(container, "unpause")

    def remove_container(
        self, ref: str, *, force: bool = True, volumes: bool = True
    ) -> None:
        self._call("remove_container")
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in _RUNNING:
                if not force:
                    raise errors.for_status(
                        409, f"You cannot remove a running container {ref}"
                    )
                self._stopped(container, 137)
            del self._containers[container["Id"]]
            del self._logs[container["Id"]]
            self._emit(container, "destroy")

    def container_logs(self, ref: str, *, tail: int | None = None) -> bytes:
        self._call("container_logs")
        with self._lock:
            output = self._logs[self._find(ref)["Id"]]
        if tail is None:
            return output
        lines = output.splitlines(keepends=True)
        return b"".join(lines[len(lines) - min(tail, len(lines)) :])

    # Images

    def list_images(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[dict[str, Any]]:
        self._call("list_images")
        wanted = (filters or {}).get("reference")
        with self._lock:
            return [
                {"Id": image["Id"], "RepoTags": list(image["RepoTags"])}
                for image in self._images.values()
                if wanted is None
                or any(
                    tag in wanted or tag.rpartition(":")[0] in wanted
                    for tag in image["RepoTags"]
                )
            ]

    def inspect_image(self, ref: str) -> dict[str, Any]:
        self._call("inspect_image")
        with self._lock:
            return copy.deepcopy(self._find_image(ref))

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        self._call("load_image")
        content = io.BytesIO(b"".join(chunks))
        try:
            with tarfile.open(fileobj=content, mode="r:") as archive:
                [manifest] = json.load(_member(archive, "manifest.json"))
                config = _member(archive, manifest["Config"]).read()
        except (tarfile.TarError, KeyError, ValueError) as error:
            raise errors.for_status(500, f"invalid archive: {error}") from error
        described = json.loads(config)
        image_id = "sha256:" + hashlib.sha256(config).hexdigest()
        tags = [_with_tag(tag) for tag in manifest.get("RepoTags") or []]
        with self._lock:
            image = self._images.setdefault(
                image_id,
                {
                    "Id": image_id,
                    "RepoTags": [],
                    "Architecture": described.get("architecture", ""),
                    "Os": described.get("os", ""),
                    "Config": described.get("config") or {},
                    "RootFS": {
                        "Type": "layers",
                        "Layers": described["rootfs"]["diff_ids"],
                    },
                    "Size": len(content.getvalue()),
                },
            )
            for tag in tags:
                self._tag(image, tag)
        names = tags or [image_id]
        kind = "image" if tags else "image ID"
        return [{"stream": f"Loaded {kind}: {name}\n"} for name in names]

    def tag_image(self, ref: str, repo: str, tag: str) -> None:
        self._call("tag_image")
        with self._lock:
            self._tag(self._find_image(ref), f"{repo}:{tag}")

    def remove_image(self, ref: str, *, force: bool = False) -> None:
        self._call("remove_image")
        with self._lock:
            image = self._find_image(ref)
            users = [c for c in self._containers.values() if c["Image"] == image["Id"]]
            if _with_tag(ref) in image["RepoTags"]:
                left = [tag for tag in image["RepoTags"] if tag != _with_tag(ref)]
            else:
                left = []
            if users and not left and not force:
                raise errors.for_status(
                    409, f"conflict: unable to remove image {ref}: it is in use"
                )
            image["RepoTags"] = left
            if not left and not users:
                del self._images[image["Id"]]

    # What the methods share

    def _call(self, method: str) -> None:
        if pending := self._failures.get(method):
            raise pending.pop(0)

    def _find(self, ref: str) -> dict[str, Any]:
        for container in self._containers.values():
            if container["Id"].startswith(ref) or container["Name"] == f"/{ref}":
                return container
        raise errors.for_status(404, f"No such container: {ref}")

    def _running(self, ref: str) -> dict[str, Any]:
        container = self._find(ref)
        if container["State"]["Status"] not in _RUNNING:
            raise errors.for_status(409, f"Container {ref} is not running")
        return container

    def _find_image(self, ref: str) -> dict[str, Any]:
        for image in self._images.values():
            if image["Id"] == ref or _with_tag(ref) in image["RepoTags"]:
                return image
        raise errors.for_status(404, f"No such image: {ref}")

    def _tag(self, image: dict[str, Any], tag: str) -> None:
        for other in self._images.values():
            if tag in other["RepoTags"]:
                other["RepoTags"].remove(tag)
        image["RepoTags"].append(tag)

    def _stopped(self, container: dict[str, Any], code: int) -> None:
        container["State"].update(
            Status="exited",
            Running=False,
            Paused=False,
            Pid=0,
            ExitCode=code,
            FinishedAt=_now(),
        )
        self._emit(container, "die")

    def _emit(self, container: Mapping[str, Any], action: str) -> None:
        now = time.time_ns()
        event = {
            "Type": "container",
            "Action": action,
            "Actor": {
                "ID": container["Id"],
                "Attributes": {
                    "name": container["Name"].lstrip("/"),
                    **container["Config"]["Labels"],
                },
            },
            "time": now // 10**9,
            "timeNano": now,
        }
        self._history.append(event)
        self._streams = [stream for stream in self._streams if stream.put(event)]


class _MockEventStream:
    """See :class:`nova_docker.client.EventStream`."""

    def __init__(self, filters: Mapping[str, Sequence[str]]) -> None:
        self._filters = filters
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._closed = False

    def put(self, event: dict[str, Any]) -> bool:
        """Take an event that passes the filters; False once closed."""
        actions = self._filters.get("event")
        if (not actions or event["Action"] in actions) and _has_labels(
            event["Actor"]["Attributes"], self._filters.get("label", ())
        ):
            self._events.put(event)
        return not self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while not self._closed and (event := self._events.get()) is not None:
            yield copy.deepcopy(event)

    def close(self) -> None:
        self._closed = True
        self._events.put(None)


def _has_labels(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    for label in wanted:
        name, equals, value = label.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _with_tag(ref: str) -> str:
    return ref if ":" in ref.rpartition("/")[2] else f"{ref}:latest"


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000000001Z"
