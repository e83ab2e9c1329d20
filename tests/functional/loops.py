# SPDX-License-Identifier: Apache-2.0
"""Volumes for tests: loop devices, which os-brick connects as local volumes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

from tests import samples

MIB = 1 << 20


class Mapping(dict[str, Any]):
    """An item of Nova's block device mapping, of which Nova has no record here."""

    def save(self) -> None:
        pass


class Volume:
    """A volume of Cinder that is a loop device of this host.

    :ivar path: of its block device
    """

    def __init__(self, file: pathlib.Path, path: str) -> None:
        self.id = samples.uuid()
        self.file = file
        self.path = path

    @property
    def number(self) -> str:
        found = os.stat(self.path).st_rdev
        return f"{os.major(found)}:{os.minor(found)}"

    def connection_info(self, **data: Any) -> dict[str, Any]:
        return {
            "driver_volume_type": "local",
            "serial": self.id,
            "data": {"device_path": self.path, "volume_id": self.id, **data},
        }

    def mapping(self, mountpoint: str, **data: Any) -> Mapping:
        """Return it as an item of Nova's block device mapping."""
        return Mapping(
            mount_device=mountpoint,
            boot_index=None,
            connection_info=self.connection_info(**data),
        )

    def read(self, size: int = 5) -> bytes:
        """Return its first bytes, from the disk."""
        return self.file.read_bytes()[:size]

    def make_file_system(self, kind: str = "ext4", *options: str) -> None:
        """Format it, as a user may do with a volume that is a device."""
        subprocess.run([f"mkfs.{kind}", "-q", *options, self.path], check=True)

    def write(self, start: int, content: bytes) -> None:
        """Write to it, whatever has it."""
        with open(self.path, "r+b", buffering=0) as device:
            device.seek(start)
            device.write(content)
            os.fsync(device)

    def is_free(self) -> bool:
        """Return whether no file system of the host has it."""
        try:
            os.close(os.open(self.path, os.O_RDONLY | os.O_EXCL))
        except OSError:
            return False
        return True

    def grow(self, mib: int) -> None:
        with self.file.open("r+b") as file:
            file.truncate(mib * MIB)
        losetup("--set-capacity", self.path)


def info(
    *volumes: Mapping, ephemerals: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return Nova's block device information of a server."""
    return {
        "block_device_mapping": list(volumes),
        "ephemerals": list(ephemerals),
        "swap": None,
    }


def ephemeral(device_name: str = "/dev/vdb", **values: Any) -> dict[str, Any]:
    """Return an ephemeral disk of Nova's block device information, by default 1 GiB."""
    return {"device_name": device_name, "size": 1, "guest_format": None} | values


def below(directory: pathlib.Path) -> set[str]:
    """Return the files of a directory that have loop devices."""
    listed = losetup("--list", "--noheadings", "--output=BACK-FILE").splitlines()
    return {file for file in listed if file.startswith(f"{directory}/")}


def restart(driver: Any, server: Any, bdi: dict[str, Any], how: str) -> None:
    """Restart a server with disks.

    :param bdi: as :func:`info` returns it
    :param how: SOFT or HARD, as Nova reboots it; engine, with which all servers stop;
        docker, as an operator does; or power, off and on
    """
    nics = server.network_info
    if how in ("SOFT", "HARD"):
        driver.reboot(None, server.instance, nics, how, bdi)
    elif how == "engine":
        server.engine.restart()
        driver.resume_state_on_host_boot(None, server.instance, nics, None, bdi)
    elif how == "docker":
        server.engine.client.restart_container(server.name, 0)
    else:
        driver.power_off(server.instance, 0)
        driver.power_on(None, server.instance, nics, bdi)


@contextlib.contextmanager
def in_memory() -> Iterator[pathlib.Path]:
    """Make a directory for volumes that are formatted, which takes long on a disk."""
    with tempfile.TemporaryDirectory(prefix="nd-", dir="/dev/shm") as directory:
        yield pathlib.Path(directory)


@contextlib.contextmanager
def made(file: pathlib.Path, mib: int = 8) -> Iterator[Volume]:
    """Make a volume for the duration of the block."""
    file.write_bytes(b"")
    os.truncate(file, mib * MIB)
    path = losetup("--find", "--show", str(file)).strip()
    try:
        yield Volume(file, path)
    finally:
        losetup("--detach", path)


def losetup(*arguments: str) -> str:
    return subprocess.run(
        ["losetup", *arguments], check=True, capture_output=True, text=True
    ).stdout
