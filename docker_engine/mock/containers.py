# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.containers`."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import posixpath
import re
import socket
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from docker_engine import errors
from docker_engine.api.base import Filters
from docker_engine.mock import formats
from docker_engine.mock.filters import among
from docker_engine.mock.filters import check_filters
from docker_engine.mock.filters import has_labels
from docker_engine.mock.state import RUNNING
from docker_engine.mock.state import MockState
from docker_engine.mock.terminal import echo


class MockContainers(MockState):
    def list_containers(
        self,
        *,
        all: bool = True,
        filters: Filters | None = None,
    ) -> list[dict[str, Any]]:
        self._call("list_containers")
        check_filters(filters, "id", "label", "name", "status")
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
                    "Status": formats.status(found["State"]),
                }
                for found in reversed(self._containers.values())
                if (all or "status" in wanted or found["State"]["Status"] in RUNNING)
                and has_labels(found["Config"]["Labels"], wanted.get("label", ()))
                and among(found["State"]["Status"], wanted.get("status"))
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
            mounts = _mounts(container_id, image["Config"], host_config)
            words = [*(merged.get("Entrypoint") or ()), *(merged.get("Cmd") or ())]
            self._containers[container_id] = {
                "Id": container_id,
                "Name": f"/{name}",
                "Created": formats.now(),
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
                "Mounts": mounts,
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
                    "StartedAt": formats.NEVER,
                    "FinishedAt": formats.NEVER,
                },
            }
            self._volumes |= _new_volumes(mounts, host_config)
            self._logs[container_id] = b""
            self._files[container_id] = {}
            self._emit(self._containers[container_id], "create")
        return container_id

    def inspect_container(
        self, ref: str, *, size: bool = False, timeout: float | None = None
    ) -> dict[str, Any]:
        self._call("inspect_container")
        with self._lock:
            found = copy.deepcopy(self._find(ref))
            if size:
                files = self._files[found["Id"]].values()
                _, layers = self._saved[found["Image"]]
                found["SizeRw"] = sum(len(content or b"") for _, content in files)
                found["SizeRootFs"] = found["SizeRw"] + sum(map(len, layers))
            return found

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

    def unpause_container(self, ref: str, *, timeout: float | None = None) -> None:
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

    def remove_container(
        self,
        ref: str,
        *,
        force: bool = True,
        volumes: bool = True,
        timeout: float | None = None,
    ) -> None:
        self._call("remove_container")
        with self._lock:
            container = self._find(ref)
            if container["State"]["Status"] in RUNNING:
                if not force:
                    raise errors.for_status(
                        409, f"You cannot remove a running container {ref}"
                    )
                self._emit(container, "kill")
                self._stopped(container, 137)
            del self._containers[container["Id"]]
            for mount in container["Mounts"] if volumes else ():
                if mount.get("Name") in self._volumes:
                    del self._volumes[mount["Name"]]
            del self._logs[container["Id"]]
            del self._files[container["Id"]]
            self._emit(container, "destroy")

    def container_logs(self, ref: str, *, tail: int | None = None) -> bytes:
        self._call("container_logs")
        with self._lock:
            output = self._logs[self._find(ref)["Id"]]
        if tail is None:
            return output
        # Not splitlines(): a carriage return alone does not end a line.
        lines = re.findall(rb"[^\n]*\n|[^\n]+", output)
        return b"".join(lines[len(lines) - min(tail, len(lines)) :])

    def put_archive(self, ref: str, directory: str, content: bytes) -> None:
        self._call("put_archive")
        with self._lock:
            container = self._find(ref)
            files = self._files[container["Id"]]
            parent = directory.rstrip("/")
            if parent and parent not in files:
                raise errors.for_status(
                    404,
                    f"Could not find the file {directory}",
                    missing=errors.PathNotFound,
                )
            with tarfile.open(fileobj=io.BytesIO(content)) as archive:
                for member in archive:
                    found = archive.extractfile(member) if member.isfile() else None
                    name = f"{parent}/{member.name.strip('/')}"
                    if name in files and files[name][0].isdir() != member.isdir():
                        raise errors.for_status(400, f"cannot overwrite {name}")
                    files[name] = (member, found.read() if found else None)

    def has_path(self, ref: str, file: str) -> bool:
        self._call("has_path")
        try:
            self.stat_path(ref, file)
        except errors.PathNotFound:
            return False
        return True

    def get_archive(self, ref: str, file: str, *, max_size: int) -> bytes:
        self._call("get_archive")
        with self._lock:
            try:
                member, content = self._files[self._find(ref)["Id"]][file]
            except KeyError:
                raise errors.for_status(
                    404,
                    f"Could not find the file {file} in container {ref}",
                    missing=errors.PathNotFound,
                ) from None
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            member = copy.copy(member)
            member.name = file.rpartition("/")[2]
            archive.addfile(member, io.BytesIO(content or b""))
        if len(target.getvalue()) > max_size:
            raise errors.DockerError(
                f"the archive of {file} in {ref} is larger than {max_size} bytes"
            )
        return target.getvalue()

    def stat_path(self, ref: str, file: str) -> dict[str, Any]:
        self._call("stat_path")
        with self._lock:
            try:
                member, _ = self._files[self._find(ref)["Id"]][file]
            except (KeyError, errors.ContainerNotFound):
                raise errors.for_status(
                    404, "Not Found", missing=errors.PathNotFound
                ) from None
        return {
            "name": file.rpartition("/")[2],
            "size": member.size,
            "mode": member.mode | formats.file_type(member),
            "linkTarget": posixpath.join(posixpath.dirname(file), member.linkname)
            if member.issym()
            else "",
        }

    def attach_container(self, ref: str, *, detach_keys: str) -> socket.socket:
        self._call("attach_container")
        self._find(ref)
        return echo(lambda: None)

    def resize_container(self, ref: str, rows: int, columns: int) -> None:
        self._call("resize_container")
        self._running(ref)

    def commit_container(
        self,
        ref: str,
        repo: str,
        tag: str,
        config: Mapping[str, Any],
        *,
        pause: bool = True,
    ) -> str:
        self._call("commit_container")
        with self._lock:
            container = self._find(ref)
            base = self._images[container["Image"]]
            described = {
                "architecture": base["Architecture"],
                "os": base["Os"],
                "created": formats.now(),
                "config": _merged(container["Config"], copy.deepcopy(dict(config))),
                "rootfs": {"type": "layers", "diff_ids": base["RootFS"]["Layers"]},
            }
            content = json.dumps(described).encode()
            image = formats.image(content)
            self._images[image["Id"]] = image
            self._saved[image["Id"]] = (content, self._saved[base["Id"]][1])
            self._tag(image, f"{repo}:{tag}")
        return image["Id"]


def _check_memory(limits: Mapping[str, Any]) -> None:
    if 0 < limits.get("Memory", 0) < 6 * 2**20:
        raise errors.for_status(400, "Minimum memory limit allowed is 6MB")


def _merged(image: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container's configuration, with the image's values as defaults."""
    own = {key: value for key, value in body.items() if value is not None}
    # The image's command belongs to the image's entrypoint.
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
    container_id: str, image: Mapping[str, Any], host_config: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return a container's volumes: those requested, and those of its image."""
    asked = {m["Target"]: m for m in host_config.get("Mounts", ())}
    declared = {path: {"Type": "volume"} for path in image.get("Volumes") or {}}
    return [
        {
            "Type": "volume",
            "Name": mount.get("Source")
            or hashlib.sha256(f"{container_id}{path}".encode()).hexdigest(),
            "Destination": path,
        }
        if mount["Type"] == "volume"
        else {"Type": mount["Type"], "Destination": path}
        for path, mount in (declared | asked).items()
    ]


def _new_volumes(
    mounts: list[dict[str, Any]], host_config: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """Return the labels of the anonymous volumes of a new container, by name."""
    asked = {m["Target"]: m for m in host_config.get("Mounts", ())}
    return {
        mount["Name"]: dict(
            asked.get(mount["Destination"], {})
            .get("VolumeOptions", {})
            .get("Labels", {})
        )
        for mount in mounts
        if mount["Type"] == "volume"
        and not asked.get(mount["Destination"], {}).get("Source")
    }
