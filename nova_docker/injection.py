# SPDX-License-Identifier: Apache-2.0
"""Injection of files and SSH keys into a server before its first process runs.

The engine unpacks them inside the container's root file system, so an image's links
cannot lead to files of the host.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import time
from collections.abc import Iterable
from collections.abc import Sequence
from typing import NamedTuple

from nova import exception
from nova import objects
from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import naming

LOG = logging.getLogger(__name__)

# Of an image's /etc/passwd and authorized_keys, in bytes
_MAX_SIZE = 1024 * 1024


class User(NamedTuple):
    """The owner of a file."""

    home: str
    uid: int
    gid: int


ROOT = User("/root", 0, 0)


def inject_files(
    client: DockerClient,
    instance: objects.Instance,
    files: Sequence[tuple[str, bytes]],
) -> None:
    """Inject a user's files into a server that has not started yet.

    Missing directories are created. Existing files are replaced, directories are not.

    Engine call: PUT /containers/{id}/archive

    :param files: as ComputeDriver.spawn receives them
    :raises ImageUnacceptable: if the image has no place for one of them
    """
    if not files:
        return
    try:
        entries = [_file(path, content) for path, content in files]
        client.put_archive(naming.name_of(instance.uuid), "/", _tar(entries))
    except (errors.DockerError, ValueError) as error:
        raise exception.ImageUnacceptable(
            image_id=instance.image_ref,
            reason=f"cannot inject files into it: {error}",
        ) from error


def directories(paths: Iterable[str]) -> bytes:
    """Return an archive of empty directories of root's, for PUT archive."""
    return _tar([_directory(path, ROOT, mode=0o755) for path in paths])


def inject_key(
    client: DockerClient, instance: objects.Instance, key: str, user: str
) -> None:
    """Inject an SSH key into a server that has not started yet.

    The image's own authorized keys remain. If the image has no place for the key, a
    warning is logged and the server boots without it.

    Engine calls: GET and PUT /containers/{id}/archive

    :param key: a line for authorized_keys
    :param user: name of the user in the image
    """
    name = naming.name_of(instance.uuid)
    try:
        owner = _user(_read(client, name, "/etc/passwd"), user)
        directory = posixpath.join(owner.home, ".ssh")
        path = posixpath.join(directory, "authorized_keys")
        lines = _read(client, name, path).splitlines()
        if key.strip().encode() not in lines:
            lines.append(key.strip().encode())
        content = b"".join(line + b"\n" for line in lines)
        entries = [
            _directory(directory, owner),
            _file(path, content, owner, mode=0o600),
        ]
        client.put_archive(name, "/", _tar(entries))
    except (errors.DockerError, tarfile.TarError, ValueError) as error:
        LOG.warning("Failed to inject the SSH key: %s", error, instance=instance)


def _read(client: DockerClient, name: str, path: str) -> bytes:
    """Return the content of a file; empty if there is no regular file.

    :raises DockerError: if it is larger than ``_MAX_SIZE``
    """
    try:
        content = client.get_archive(name, path, max_size=_MAX_SIZE)
    except errors.PathNotFound:
        return b""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        member = archive.next()
        file = archive.extractfile(member) if member and member.isreg() else None
        return file.read() if file else b""


def _user(passwd: bytes, name: str) -> User:
    """Find a user in the content of /etc/passwd; root always exists.

    :raises ValueError: if there is no such user, or the entry is malformed
    """
    for line in passwd.decode(errors="replace").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) == 7:
            return User(fields[5] or "/", int(fields[2]), int(fields[3]))
    if name == "root":
        return ROOT
    raise ValueError(f"the image has no user {name!r}")


Entry = tuple[tarfile.TarInfo, bytes]


def _file(
    path: str, content: bytes | str, owner: User = ROOT, mode: int = 0o644
) -> Entry:
    data = content.encode() if isinstance(content, str) else content
    entry = _entry(path, owner, mode)
    entry.size = len(data)
    return entry, data


def _directory(path: str, owner: User, mode: int = 0o700) -> Entry:
    entry = _entry(path, owner, mode)
    entry.type = tarfile.DIRTYPE
    return entry, b""


def _entry(path: str, owner: User, mode: int) -> tarfile.TarInfo:
    # The engine would reject "..", which for a shell stays inside the root.
    name = posixpath.normpath(f"/{path}").lstrip("/")
    if not name or "\0" in name:
        raise ValueError(f"{path!r} is not the path of a file")
    entry = tarfile.TarInfo(name)
    entry.mode, entry.uid, entry.gid = mode, owner.uid, owner.gid
    entry.mtime = int(time.time())
    return entry


def _tar(entries: Iterable[Entry]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for entry, content in entries:
            archive.addfile(entry, io.BytesIO(content))
    return target.getvalue()
