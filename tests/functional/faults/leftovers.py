# SPDX-License-Identifier: Apache-2.0
"""What an engine, a switch and a host hold: whatever a failed verb could leave."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import psutil
from pyroute2 import IPRoute
from pyroute2 import netns

from nova_docker.container import naming
from tests.engine import Engine
from tests.functional import loops
from tests.functional import ovs

# Directories of an engine with an entry for each thing that it stores or runs
_STORED = (
    "containers/*",
    "volumes/*",
    "overlay2/*",
    "image/overlay2/layerdb/sha256/*",
    "image/overlay2/layerdb/mounts/*",
    "image/overlay2/imagedb/content/sha256/*",
    "tmp/*",
)
_RUNNING = (
    "containerd/daemon/io.containerd.runtime.v2.task/moby/*",
    "runtime-*/moby/*",
)

# Directories of nova-compute with a directory for each server
_OF_SERVERS = ("docker-config-drives", "docker-ephemeral-disks")

Resources = dict[str, set[str]]


class Inventory:
    """Finds what exists on one engine and its switch."""

    def __init__(
        self, engine: Engine, switch: ovs.OpenVSwitch, state: pathlib.Path
    ) -> None:
        self._engine = engine
        self._switch = switch
        self._state = state
        self._root = pathlib.Path(engine.client.info()["DockerRootDir"])

    def take(self) -> Resources:
        """Return what exists, by kind."""
        client = self._engine.client
        images = client.list_images()
        exec_root = self._root.parent / "exec"
        return {
            "container": {
                f"{found['Names']} {found['Status']}"
                for found in client.list_containers()
            },
            "OVS port": self._switch.ports(),
            "image": {found["Id"] for found in images},
            "tag": {tag for found in images for tag in found["RepoTags"] or ()},
            "mount": {
                part.mountpoint
                for part in psutil.disk_partitions(all=True)
                if part.mountpoint.startswith(f"{self._root.parent}/")
            },
            "file of the engine": _found(self._root, _STORED),
            "process of the engine": _found(exec_root, _RUNNING),
            "loop device": loops.below(self._state),
            "file of nova-compute": {
                str(path)
                for path in self._state.rglob("*")
                # nova-compute receives servers at a socket.
                if not (path.is_dir() or path.is_socket())
                or path.parent.name in _OF_SERVERS
            },
        }

    @staticmethod
    def of_server(uuid: str, devices: set[str]) -> Iterator[str]:
        """Yield what the host has for a server: its namespaces and its veths.

        :param devices: names of the host ends
        """
        name = naming.name_of(uuid)
        if name in netns.listnetns():
            yield f"namespace {name}"
        for directory in ("userns", "owners", "devices", "filesystems"):
            if os.path.lexists(path := f"/run/nova-docker/{directory}/{name}"):
                yield f"file {path}"
        with IPRoute() as host:
            for link in host.get_links():
                mark = (link.get("ifalias") or "").partition(" ")[0]
                if mark == name or link.get("ifname") in devices:
                    yield f"veth {link.get('ifname')}"


def left(before: Resources, after: Resources) -> list[str]:
    """Return what exists only afterwards, in words."""
    return [
        f"{kind} {name}"
        for kind in after
        for name in sorted(after[kind] - before[kind])
    ]


def lost(before: Resources, after: Resources) -> list[str]:
    """Return what existed only before, in words."""
    return left(after, before)


def _found(root: pathlib.Path, patterns: tuple[str, ...]) -> set[str]:
    return {
        str(path.relative_to(root))
        for pattern in patterns
        for path in root.glob(pattern)
    }
