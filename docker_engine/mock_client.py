# SPDX-License-Identifier: Apache-2.0
"""An engine in memory, for fake mode and for tests that need speed.

It has the methods of :class:`docker_engine.client.DockerClient` and behaves as
the engine does where the driver looks; the same contract tests run against
both, so that it cannot drift. It runs no process: :meth:`MockDockerClient.exit`
and :meth:`MockDockerClient.write` stand for what a container's process does.
"""

from __future__ import annotations

import copy
import datetime
import fnmatch
import hashlib
import io
import itertools
import json
import queue
import re
import socket
import tarfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

from docker_engine import client
from docker_engine import errors

_RUNNING = ("running", "paused")
_NEVER = "0001-01-01T00:00:00Z"


class MockDockerClient:
    """See :class:`docker_engine.client.DockerClient` for the public methods."""

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
        self._files: dict[str, dict[str, tuple[tarfile.TarInfo, bytes | None]]] = {}
        self._execs: dict[str, dict[str, Any]] = {}
        self._images: dict[str, dict[str, Any]] = {}
        # Of each image the configuration's bytes and the layers.
        self._saved: dict[str, tuple[bytes, list[bytes]]] = {}
        self._history: list[dict[str, Any]] = []
        self._streams: list[_MockEventStream] = []
        self._checkpoints: dict[str, set[str]] = {}
        self._failures: dict[str, list[Exception]] = {}
        self._pids = itertools.count(1000)
        #: What a registry has: an archive by ``repository@sha256:…``. A test may
        #: put something there.
        self.registry: dict[str, bytes] = {}
        self._lock = threading.RLock()

    # What a test may make happen

    def fail_next(self, method: str, error: Exception) -> None:
        """Let the next call of a method raise ``error`` and do nothing."""
        self._failures.setdefault(getattr(self, method).__name__, []).append(error)

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
        return {
            "Version": "20.10.24",
            "ApiVersion": client.MIN_API_VERSION,
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
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> _MockEventStream:
        self._call("events")
        _check(filters, "container", "event", "label", "type")
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
        _check(filters, "id", "label", "name", "status")
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
                for found in reversed(self._containers.values())
                if (all or "status" in wanted or found["State"]["Status"] in _RUNNING)
                and _has_labels(found["Config"]["Labels"], wanted.get("label", ()))
                and _among(found["State"]["Status"], wanted.get("status"))
                and any(found["Id"].startswith(i) for i in wanted.get("id", [""]))
                and any(re.search(n, found["Name"]) for n in wanted.get("name", [""]))
            ]

    def create_container(self, name: str, config: Mapping[str, Any]) -> str:
        self._call("create_container")
        body = copy.deepcopy(dict(config))
        with self._lock:
            image = self._find_image(body["Image"])
            _check_memory(body.get("HostConfig", {}))
            self._refuse_taken(name)
            container_id = hashlib.sha256(
                f"{name}{time.time_ns()}".encode()
            ).hexdigest()
            host_config = body.pop("HostConfig", {})
            merged = _merged(image["Config"], body)
            words = [*(merged.get("Entrypoint") or ()), *(merged.get("Cmd") or ())]
            self._containers[container_id] = {
                "Id": container_id,
                "Name": f"/{name}",
                "Created": _now(),
                "Path": words[0],
                "Args": words[1:],
                "Image": image["Id"],
                "Config": merged,
                "ExecIDs": None,
                "HostConfig": host_config,
                "GraphDriver": {
                    "Name": "overlay2",
                    "Data": {
                        "LowerDir": f"/{container_id}-init/diff:/{image['Id'][7:]}",
                        "UpperDir": f"/{container_id}/diff",
                        "WorkDir": f"/{container_id}/work",
                    },
                },
                "Mounts": _mounts(image["Config"], host_config),
                "State": {
                    "Status": "created",
                    "Running": False,
                    "Paused": False,
                    "Restarting": False,
                    "OOMKilled": False,
                    "Dead": False,
                    "Pid": 0,
                    "ExitCode": 0,
                    "Error": "",
                    "StartedAt": _NEVER,
                    "FinishedAt": _NEVER,
                },
            }
            self._logs[container_id] = b""
            self._files[container_id] = {}
            self._emit(self._containers[container_id], "create")
        return container_id

    def inspect_container(self, ref: str) -> dict[str, Any]:
        self._call("inspect_container")
        with self._lock:
            return copy.deepcopy(self._find(ref))

    def start_container(self, ref: str, *, checkpoint: str | None = None) -> None:
        self._call("start_container")
        with self._lock:
            container = self._find(ref)
            if checkpoint is not None:
                self._check_checkpoint(container, checkpoint)
            if container["State"]["Paused"]:
                raise errors.for_status(
                    409, "cannot start a paused container, try unpause instead"
                )
            self._start(container)

    def stop_container(self, ref: str, timeout: int) -> None:
        self._call("stop_container")
        with self._lock:
            self._stop(self._find(ref))

    def restart_container(self, ref: str, timeout: int) -> None:
        self._call("restart_container")
        with self._lock:
            container = self._find(ref)
            self._stop(container)
            self._start(container)
            self._emit(container, "restart")

    def kill_container(self, ref: str, signal: str = "KILL") -> None:
        self._call("kill_container")
        with self._lock:
            container = self._running(ref)
            self._emit(container, "kill")
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

    def rename_container(self, ref: str, name: str) -> None:
        self._call("rename_container")
        with self._lock:
            container = self._find(ref)
            self._refuse_taken(name)
            container["Name"] = f"/{name}"
            self._emit(container, "rename")

    def update_container(self, ref: str, limits: Mapping[str, Any]) -> None:
        self._call("update_container")
        with self._lock:
            container = self._find(ref)
            _check_memory(limits)
            container["HostConfig"].update(copy.deepcopy(dict(limits)))
            self._emit(container, "update")

    def container_stats(self, ref: str) -> dict[str, Any]:
        self._call("container_stats")
        with self._lock:
            container = self._find(ref)
        if not container["State"]["Running"]:
            return {"memory_stats": {}, "cpu_stats": {"cpu_usage": {"total_usage": 0}}}
        return {
            "memory_stats": {
                "usage": 3 * 2**20,
                "limit": container["HostConfig"].get("Memory") or 16 * 2**30,
                "stats": {"total_inactive_file": 2**20},
            },
            "cpu_stats": {"cpu_usage": {"total_usage": 10**6}},
        }

    def create_checkpoint(self, ref: str, checkpoint: str) -> None:
        self._call("create_checkpoint")
        with self._lock:
            container = self._find(ref)
            if not container["State"]["Running"]:
                raise errors.for_status(500, f"Container {ref} not running")
            self._checkpoints.setdefault(container["Id"], set()).add(checkpoint)
            self._stopped(container, 137)

    def list_checkpoints(self, ref: str) -> list[str]:
        self._call("list_checkpoints")
        with self._lock:
            return sorted(self._checkpoints.get(self._find(ref)["Id"], ()))

    def delete_checkpoint(self, ref: str, checkpoint: str) -> None:
        self._call("delete_checkpoint")
        with self._lock:
            container = self._find(ref)
            self._check_checkpoint(container, checkpoint)
            self._checkpoints[container["Id"]].remove(checkpoint)

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
                self._emit(container, "kill")
                self._stopped(container, 137)
            del self._containers[container["Id"]]
            del self._logs[container["Id"]]
            del self._files[container["Id"]]
            self._emit(container, "destroy")

    def container_logs(self, ref: str, *, tail: int | None = None) -> bytes:
        self._call("container_logs")
        with self._lock:
            output = self._logs[self._find(ref)["Id"]]
        if tail is None:
            return output
        # Not splitlines: a carriage return alone ends no line.
        lines = re.findall(rb"[^\n]*\n|[^\n]+", output)
        return b"".join(lines[len(lines) - min(tail, len(lines)) :])

    def put_archive(self, ref: str, path: str, content: bytes) -> None:
        self._call("put_archive")
        with self._lock:
            container = self._find(ref)
            files = self._files[container["Id"]]
            directory = path.rstrip("/")
            if directory and directory not in files:
                raise errors.for_status(404, f"Could not find the file {path}")
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    found = archive.extractfile(member) if member.isfile() else None
                    name = f"{directory}/{member.name.strip('/')}"
                    if name in files and files[name][0].isdir() != member.isdir():
                        raise errors.for_status(400, f"cannot overwrite {name}")
                    files[name] = (member, found.read() if found else None)

    def get_archive(self, ref: str, path: str, *, max_size: int) -> bytes:
        self._call("get_archive")
        with self._lock:
            try:
                member, content = self._files[self._find(ref)["Id"]][path]
            except KeyError:
                raise errors.for_status(
                    404, f"Could not find the file {path} in container {ref}"
                ) from None
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            member = copy.copy(member)
            member.name = path.rpartition("/")[2]
            archive.addfile(member, io.BytesIO(content or b""))
        if len(target.getvalue()) > max_size:
            raise errors.DockerError(f"{path} of {ref} is larger than {max_size}")
        return target.getvalue()

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
        return _echo(end)

    def resize_exec(self, exec_id: str, rows: int, columns: int) -> None:
        self._call("resize_exec")
        self._exec(exec_id)

    def attach_container(self, ref: str, *, detach_keys: str) -> socket.socket:
        self._call("attach_container")
        self._find(ref)
        return _echo(lambda: None)

    def resize_container(self, ref: str, rows: int, columns: int) -> None:
        self._call("resize_container")
        self._running(ref)

    # Images

    def commit_container(
        self, ref: str, repo: str, tag: str, config: Mapping[str, Any]
    ) -> str:
        self._call("commit_container")
        with self._lock:
            container = self._find(ref)
            base = self._images[container["Image"]]
            described = {
                "architecture": base["Architecture"],
                "os": base["Os"],
                "created": _now(),
                "config": _merged(container["Config"], copy.deepcopy(dict(config))),
                "rootfs": {"type": "layers", "diff_ids": base["RootFS"]["Layers"]},
            }
            content = json.dumps(described).encode()
            image = _image(content)
            self._images[image["Id"]] = image
            self._saved[image["Id"]] = (content, self._saved[base["Id"]][1])
            self._tag(image, f"{repo}:{tag}")
        return image["Id"]

    def save_image(self, ref: str) -> client.ByteStream | io.BytesIO:
        self._call("save_image")
        with self._lock:
            image = self._find_image(ref)
            config, layers = self._saved[image["Id"]]
        files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
        manifest = {
            "Config": "config.json",
            "RepoTags": None,
            "Layers": list(files),
        }
        files["config.json"] = config
        files["manifest.json"] = json.dumps([manifest]).encode()
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        target.seek(0)
        return target

    def list_images(
        self, filters: Mapping[str, Sequence[str]] | None = None
    ) -> list[dict[str, Any]]:
        self._call("list_images")
        _check(filters, "reference")
        wanted = (filters or {}).get("reference")
        with self._lock:
            return [
                {
                    "Id": image["Id"],
                    "RepoTags": list(image["RepoTags"]),
                    "RepoDigests": list(image["RepoDigests"]),
                }
                for image in self._images.values()
                if wanted is None
                or any(
                    fnmatch.fnmatchcase(name, pattern)
                    for tag in image["RepoTags"]
                    for name in (tag, tag.rpartition(":")[0])
                    for pattern in wanted
                )
            ]

    def inspect_image(self, ref: str) -> dict[str, Any]:
        self._call("inspect_image")
        with self._lock:
            return copy.deepcopy(self._find_image(ref))

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        self._call("load_image")
        loaded = _unpacked(b"".join(chunks))
        messages = []
        with self._lock:
            for config, layers, tags in loaded:
                image = self._add(config, layers)
                for tag in tags:
                    self._tag(image, tag)
                    messages.append({"stream": f"Loaded image: {tag}\n"})
                if not tags:
                    messages.append({"stream": f"Loaded image ID: {image['Id']}\n"})
                self._emit_image("load", image["Id"])
        return messages

    def pull_image(
        self, repository: str, digest: str, auth: tuple[str, str] | None = None
    ) -> None:
        self._call("pull_image")
        reference = f"{repository}@{digest}"
        if reference not in self.registry:
            raise errors.for_status(404, f"manifest for {reference} not found")
        [(config, layers, _)] = _unpacked(self.registry[reference])
        with self._lock:
            image = self._add(config, layers)
            if reference not in image["RepoDigests"]:
                image["RepoDigests"].append(reference)
            self._emit_image("pull", reference)

    def tag_image(self, ref: str, repo: str, tag: str) -> None:
        self._call("tag_image")
        with self._lock:
            image = self._find_image(ref)
            self._tag(image, f"{repo}:{tag}")
            self._emit_image("tag", image["Id"], f"{repo}:{tag}")

    def remove_image(self, ref: str, *, force: bool = False) -> None:
        self._call("remove_image")
        with self._lock:
            image = self._find_image(ref)
            names = [*image["RepoTags"], *image["RepoDigests"]]
            name = ref if "@" in ref else _with_tag(ref)
            by_name = name in names
            left = [n for n in names if by_name and n != name]
            users = [c for c in self._containers.values() if c["Image"] == image["Id"]]
            if not by_name and any(c["State"]["Running"] for c in users):
                raise errors.for_status(
                    409, f"conflict: unable to delete {ref} (cannot be forced)"
                )
            if not force and (
                (users and not left) or (not by_name and len(image["RepoTags"]) > 1)
            ):
                raise errors.for_status(
                    409, f"conflict: unable to remove {ref} (must force): it is in use"
                )
            for kind in ("RepoTags", "RepoDigests"):
                image[kind] = [n for n in image[kind] if n in left]
            self._emit_image("untag", image["Id"])
            if not left and not users:
                del self._images[image["Id"]]
                self._emit_image("delete", image["Id"])

    # What the methods share

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
            raise errors.for_status(404, f"No such exec instance: {exec_id}") from None

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
                _with_tag(ref) in image["RepoTags"]
                or ref in image["RepoDigests"]
                or image["Id"].startswith(prefix)
            ):
                return image
        raise errors.for_status(404, f"No such image: {ref}")

    def _add(self, config: bytes, layers: list[bytes]) -> dict[str, Any]:
        image = _image(config)
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
                StartedAt=_now(),
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
            FinishedAt=_now(),
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


class _MockEventStream(Iterator[dict[str, Any]]):
    """See :class:`docker_engine.client.EventStream`."""

    def __init__(self, filters: Mapping[str, Sequence[str]]) -> None:
        self._filters = filters
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._closed = False

    def put(self, event: dict[str, Any]) -> bool:
        """Take an event that passes the filters; False once closed."""
        actor = event["Actor"]
        wanted = self._filters
        if (
            _among(event["Action"], wanted.get("event"))
            and _among(event["Type"], wanted.get("type"))
            and _has_labels(actor["Attributes"], wanted.get("label", ()))
            and (
                _among(actor["ID"], wanted.get("container"))
                or _among(actor["Attributes"]["name"], wanted.get("container"))
            )
        ):
            self._events.put(event)
        return not self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> dict[str, Any]:
        event = None if self._closed else self._events.get()
        if event is None or self._closed:
            raise StopIteration
        return copy.deepcopy(event)

    def close(self) -> None:
        self._closed = True
        self._events.put(None)


def _check_memory(limits: Mapping[str, Any]) -> None:
    if 0 < limits.get("Memory", 0) < 6 * 2**20:
        raise errors.for_status(400, "Minimum memory limit allowed is 6MB")


def _echo(end: Callable[[], None]) -> socket.socket:
    """A terminal that answers what is typed, until it is closed or ``exit``."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs:
            while (typed := theirs.recv(4096)) and b"exit" not in typed:
                theirs.sendall(typed)
            # Who sees the terminal closed finds the command ended.
            end()

    threading.Thread(target=play, daemon=True).start()
    return ours


def _check(filters: Mapping[str, Sequence[str]] | None, *known: str) -> None:
    for name in filters or ():
        if name not in known:
            raise errors.for_status(400, f"Invalid filter '{name}'")


def _among(value: str, wanted: Sequence[str] | None) -> bool:
    return wanted is None or value in wanted


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


def _unpacked(content: bytes) -> list[tuple[bytes, list[bytes], list[str]]]:
    """Configuration, layers and tags of each image of an archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return [
                (
                    _member(archive, manifest["Config"]).read(),
                    [_member(archive, name).read() for name in manifest["Layers"]],
                    [_with_tag(tag) for tag in manifest.get("RepoTags") or []],
                )
                for manifest in json.load(_member(archive, "manifest.json"))
            ]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise errors.for_status(500, f"invalid archive: {error}") from error


def _image(config: bytes) -> dict[str, Any]:
    """An image as GET /images/{ref}/json has it, of its configuration's bytes."""
    described = json.loads(config)
    return {
        "Id": "sha256:" + hashlib.sha256(config).hexdigest(),
        "RepoTags": [],
        "RepoDigests": [],
        "Architecture": described.get("architecture", ""),
        "Os": described.get("os", ""),
        "Config": described.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": described["rootfs"]["diff_ids"]},
        "Size": len(config),
    }


def _merged(image: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """A container's configuration: the image's where the caller has none."""
    own = {key: value for key, value in body.items() if value is not None}
    # The image's command is for the image's entrypoint.
    command = None if own.get("Entrypoint") else image.get("Cmd")
    names = {item.partition("=")[0] for item in own.get("Env", ())}
    inherited = [
        item for item in image.get("Env") or () if item.partition("=")[0] not in names
    ]
    return {
        "Tty": False,
        "OpenStdin": False,
        "User": image.get("User", ""),
        "WorkingDir": image.get("WorkingDir", ""),
        "StopSignal": image.get("StopSignal", "SIGTERM"),
        "Entrypoint": image.get("Entrypoint"),
        "Cmd": command,
        **own,
        "Env": [*own.get("Env", ()), *inherited],
        "Labels": {**(image.get("Labels") or {}), **own.get("Labels", {})},
    }


def _mounts(
    image: Mapping[str, Any], host_config: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """A container's volumes: what is asked for, and what its image has."""
    asked = {m["Target"]: m.get("Source") for m in host_config.get("Mounts", ())}
    return [
        {
            "Type": "volume",
            "Name": name or hashlib.sha256(path.encode()).hexdigest(),
            "Destination": path,
        }
        for path, name in {**dict.fromkeys(image.get("Volumes") or {}), **asked}.items()
    ]


def _with_tag(ref: str) -> str:
    return ref if ":" in ref.rpartition("/")[2] else f"{ref}:latest"


def _now() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
