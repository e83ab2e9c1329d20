# SPDX-License-Identifier: Apache-2.0
"""The files of a server that the engine itself reads.

At each start, and at each exec if the image has a user, the engine opens /etc/passwd
and /etc/group of the server's root file system as root of the host. A start holds the
container's lock meanwhile: a FIFO blocks every call on the container until the engine
restarts. The engine reads a sparse file of a terabyte into its memory. Only the engine
can see these files, so it is asked to describe them, which does not open them.

To describe a file, the engine mounts the container's bind mounts and volumes once more.
A server that exchanged a directory for a link meanwhile could have them mounted on a
directory of the host (CVE-2026-41568 and CVE-2026-42306, which Docker 20.10 has). So no
process of the server may run: a stopped server cannot change before it starts, and a
running one is frozen for an exec (:mod:`nova_docker.root_exec`).
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container.spec import VOLUMES_IN_ROOT
from nova_docker.image import configuration
from nova_docker.storage.mounts import is_below

_FILES = ("/etc/passwd", "/etc/group")
# The engine mounts its own files here, and hides what they cover.
_ENGINE_MOUNTS = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")

_MAX_SIZE = units.Mi  # bytes
_MAX_LINKS = 10
# Each costs a call. Servers of earlier versions have a volume for each that their image
# declares, and no version limited that.
_MAX_MOUNTS = 2 * configuration.MAX_VOLUMES + 8
# With VOLUMES_IN_ROOT, a tmpfs elsewhere stands for a volume of the image, unless the
# flavor gives it a size.
_KERNEL_DIRECTORIES = ("/dev", "/proc", "/sys")

# Bits of Go's FileMode: a regular file has none of them.
_LINK = 1 << 27
_KINDS = {
    1 << 31: "a directory",
    _LINK: "a symbolic link",
    1 << 26: "a device",
    1 << 25: "a named pipe",
    1 << 24: "a socket",
    1 << 19: "not a regular file",
}


class Unreadable(Exception):
    """The engine must not start the server; the message gives the reason."""


def check(client: DockerClient, name: str) -> dict[str, Any]:
    """Refuse to start a server whose files would harm the engine.

    A container that runs is not looked at, and must not be started: its first process
    may end at any time, and the engine would start it again. The files of a stopped
    one cannot change before it starts.

    Engine calls: GET /containers/{id}/json, HEAD /containers/{id}/archive

    :param name: the container's name
    :returns: ``State`` of the container
    :raises Unreadable: if one of the files is neither missing nor small and regular, or
        if a mount hides what the engine would read
    :raises DockerError: if the engine fails
    """
    found = client.inspect_container(name)
    state: dict[str, Any] = found["State"]
    if not state["Running"]:
        check_files(client, found)
    return state


def check_files(
    client: DockerClient,
    found: Mapping[str, Any],
    before_look: Callable[[], None] = lambda: None,
) -> None:
    """Refuse if the engine must not read a container's files now.

    No process of the container may run.

    :param found: the response of GET /containers/{id}/json
    :param before_look: called before each call of the engine; may raise
    :raises Unreadable: as :func:`check` does
    :raises DockerError: if the engine fails
    """
    mounted = _mounted(found)
    if len(mounted) > _MAX_MOUNTS:
        raise Unreadable(f"the server has more than {_MAX_MOUNTS} mounts")
    look = _Look(client, found["Id"], before_look)
    hidden = [look.real_path(path) for path in (*_ENGINE_MOUNTS, *mounted)]
    for file in _FILES:
        path = look.real_path(file)
        if reason := unreadable(look.stat(path)):
            raise Unreadable(f"{file} in the server is {reason}")
        if covering := next((top for top in hidden if is_below(path, top)), None):
            raise Unreadable(f"{file} in the server is hidden by a mount at {covering}")


def unreadable(stat: Mapping[str, Any] | None) -> str | None:
    """Return what is wrong with a file that the engine would read, or None.

    :param stat: as :meth:`DockerClient.stat_path` returns it; None for a missing file
    """
    if stat is None:
        return None
    for bit, kind in _KINDS.items():
        if stat["mode"] & bit:
            return kind
    if stat["size"] > _MAX_SIZE:
        return f"{stat['size']} bytes long, and the limit is {_MAX_SIZE}"
    return None


def _mounted(found: Mapping[str, Any]) -> list[str]:
    """Return where a container has mounts when it runs.

    :param found: the response of GET /containers/{id}/json
    """
    left_out = VOLUMES_IN_ROOT in (found["Config"]["Env"] or ())
    in_memory = {
        mount["Target"]
        for mount in found["HostConfig"].get("Mounts") or ()
        if mount.get("TmpfsOptions")
    }
    return [
        mount["Destination"]
        for mount in found["Mounts"]
        if not left_out
        or mount["Type"] != "tmpfs"
        or mount["Destination"] in in_memory
        or any(is_below(mount["Destination"], top) for top in _KERNEL_DIRECTORIES)
    ]


class _Look:
    """Describes files of one container, each once."""

    def __init__(
        self, client: DockerClient, name: str, before_look: Callable[[], None]
    ) -> None:
        self._client = client
        self._name = name
        self._before_look = before_look
        self._seen: dict[str, dict[str, Any] | None] = {}

    def stat(self, path: str) -> dict[str, Any] | None:
        """Return what a path is, without following a link; None if it is missing."""
        if path not in self._seen:
            self._before_look()
            try:
                self._seen[path] = self._client.stat_path(self._name, path)
            except errors.PathNotFound:
                self._seen[path] = None
        return self._seen[path]

    def real_path(self, path: str) -> str:
        """Return where a path leads, with the links of all its parts followed.

        :raises Unreadable: if links follow each other without an end
        """
        real = "/"
        for part in posixpath.normpath(path).strip("/").split("/"):
            real = self._followed(posixpath.join(real, part))
        return real

    def _followed(self, path: str) -> str:
        followed = path
        for _ in range(_MAX_LINKS):
            stat = self.stat(followed)
            if stat is None or not stat["mode"] & _LINK:
                return followed
            followed = posixpath.normpath(stat["linkTarget"])
        raise Unreadable(f"{path} in the server is a chain of symbolic links")
