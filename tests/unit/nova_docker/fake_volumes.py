# SPDX-License-Identifier: Apache-2.0
"""Fakes of os-brick's connectors, and of the host's block devices and mounts."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any

from nova_docker.privsep.filesystems import Mounted
from nova_docker.volume import superblocks

# Exists on every host; nothing reads or writes it.
DEVICE = "/dev/null"


class Connector:
    """A connector of os-brick, and its factory.

    :ivar path: of the device that it connects
    :ivar made: which connectors were made: (protocol, arguments)
    :ivar connected: the connection properties of each volume that is connected
    """

    def __init__(self, path: str = DEVICE) -> None:
        self.path: Any = path
        self.more: dict[str, Any] = {}
        self.error: Exception | None = None
        self.size: int | None = 1
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.connected: list[dict[str, Any]] = []
        self.calls: list[str] = []

    def factory(self, protocol: str, root_helper: str, **arguments: Any) -> Connector:
        self.made.append((protocol, arguments))
        return self

    def connect_volume(self, properties: dict[str, Any]) -> dict[str, Any]:
        self.calls.append("connect")
        if self.error:
            raise self.error
        if properties not in self.connected:
            self.connected.append(properties)
        return {"type": "block", "path": self.path, **self.more}

    def disconnect_volume(
        self, properties: dict[str, Any], device_info: Any, **how: bool
    ) -> None:
        self.calls.append("disconnect")
        if properties in self.connected:
            self.connected.remove(properties)

    def extend_volume(self, properties: dict[str, Any]) -> int | None:
        self.calls.append("extend")
        return self.size


class Devices:
    """What :mod:`nova_docker.privsep.devices` does, without a kernel.

    :ivar records: numbers by server and device
    :ivar inside: what each running server sees, as (server, device, number)
    :ivar open: numbers of the devices that are open
    :ivar limits: those of the last device that a running server got
    """

    def __init__(self) -> None:
        self.records: dict[str, dict[str, str]] = {}
        self.inside: list[tuple[str, str, str]] = []
        self.open: set[str] = set()
        self.limits: dict[str, int] = {}
        self.copies: list[tuple[str, str]] = []
        self.error: OSError | None = None

    def record(
        self, server: str, device: str, path: str, *, read_only: bool = False
    ) -> None:
        self.records.setdefault(server, {})[device] = self.number_of(path)

    def forget(self, server: str, device: str) -> None:
        self.records.get(server, {}).pop(device, None)

    def recorded(self, server: str) -> dict[str, str]:
        return dict(self.records.get(server, {}))

    def owners(self, number: str) -> list[str]:
        found = self.records.items()
        return [server for server, has in found if number in has.values()]

    def insert(
        self,
        server: str,
        device: str,
        pid: int,
        container: str,
        limits: Mapping[str, int],
    ) -> None:
        if self.error:
            raise self.error
        self.limits = dict(limits)
        self.inside.append((server, device, self.records[server][device]))

    def remove(
        self, server: str, device: str, number: str, pid: int, container: str
    ) -> None:
        if number in self.open:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if (server, device, number) in self.inside:
            self.inside.remove((server, device, number))

    def users(self, number: str, container: str) -> list[str]:
        return ["7 (dd)"]

    def copy(self, source: str, target: str) -> None:
        if self.error:
            raise self.error
        self.copies.append((source, target))

    def number_of(self, path: str) -> str:
        return number_of(path)

    def path_of(self, number: str) -> str:
        return DEVICE

    def has_any(self, server: str) -> bool:
        return bool(self.records.get(server))


def number_of(path: str) -> str:
    found = os.stat(path).st_rdev
    return f"{os.major(found)}:{os.minor(found)}"


class FileSystems:
    """What :mod:`nova_docker.privsep.filesystems` does, without a kernel.

    :ivar found: what is on each volume
    :ivar mounts: options and device number by server and device
    :ivar inside: what each running server sees, as (server, device)
    :ivar busy: whether something uses what is mounted in a server, or on the host
    """

    def __init__(self) -> None:
        self.found: dict[str, Any] = {
            "kind": None,
            "blank": True,
            "nothing": True,
            "mark": None,
            "first": bytes(superblocks.SIZE),
            "size": 64 << 20,
        }
        self.mounts: dict[str, dict[str, tuple[str, str]]] = {}
        self.inside: list[tuple[str, str]] = []
        self.calls: list[str] = []
        self.limits: dict[str, int] = {}
        self.busy: set[str] = set()
        self.error: OSError | None = None

    def look(self, path: str) -> dict[str, Any]:
        return dict(self.found)

    def make(self, path: str, uuid: bytes) -> None:
        self.calls.append("make")
        self.found |= {"kind": "ext4", "blank": False, "nothing": False}

    def unmark(self, path: str) -> None:
        self.calls.append("unmark")

    def mount(
        self, server: str, device: str, path: str, driver: str, options: str
    ) -> None:
        if self.error:
            raise self.error
        number = number_of(path)
        self.mounts.setdefault(server, {})[device] = (number, f"{driver} {options}")

    def unmount(self, server: str, device: str) -> None:
        if "host" in self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.mounts.get(server, {}).pop(device, None)

    def grow(self, server: str, device: str, path: str, driver: str) -> None:
        self.calls.append("grow")
        if self.error:
            raise self.error

    def insert(
        self,
        server: str,
        device: str,
        pid: int,
        container: str,
        limits: Mapping[str, int],
    ) -> None:
        if self.error:
            raise self.error
        self.limits = dict(limits)
        self.inside.append((server, device))

    def remove(self, number: str, pid: int, container: str) -> None:
        if "server" in self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.inside = [
            (server, device)
            for server, device in self.inside
            if self.recorded(server).get(device) != number
        ]

    def users(self, number: str, container: str) -> list[str]:
        return ["8 (tail)"]

    def mounted(self, server: str | None = None) -> list[Mounted]:
        return [
            Mounted(owner, device, number, options.split()[0], "ro" in options)
            for owner, devices in self.mounts.items()
            for device, (number, options) in devices.items()
            if server in (None, owner)
        ]

    def recorded(self, server: str) -> dict[str, str]:
        return {found.device: found.number for found in self.mounted(server)}

    def owners(self, number: str) -> list[str]:
        return [found.server for found in self.mounted() if found.number == number]
