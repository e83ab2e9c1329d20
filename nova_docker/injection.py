# SPDX-License-Identifier: Apache-2.0
"""Files and SSH keys put into a server before its first process runs.

The engine unpacks them, with the container's root as its own: whatever links an
image has made lead to places inside of it.
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

# Of files of an image that are read: they are small, or no such files at all.
_MAX_SIZE = 1024 * 1024


class User(NamedTuple):
    """Whom a file is for."""

    home: str
    uid: int
    gid: int


ROOT = User("/root", 0, 0)


def inject_files(
    client: DockerClient,
    instance: objects.Instance,
    files: Sequence[tuple[str, bytes]],
) -> None:
    """Put a user's files into a server that has not started yet.

    Missing directories are made. What is there is replaced, a directory
    excepted.

    :param files: as ComputeDriver.spawn is given them
    :raises ImageUnacceptable: when they find no place in its image
    """
    if not files:
        return
    try:
        entries = [_file(path, content) for path, content in files]
        client.put_archive(naming.name_of(instance.uuid), "/", _tar(entries))
    except (errors.DockerError, ValueError) as error:
        raise exception.ImageUnacceptable(
            image_id=instance.image_ref,
            reason=f"the files to inject cannot be put into it: {error}",
        ) from error


def inject_key(
    client: DockerClient, instance: objects.Instance, key: str, user: str
) -> None:
    """Let an SSH key log in to a server that has not started yet.

    Keys that the image trusts are kept. A server whose image has no place for
    it boots nevertheless, as it may have other ways in.

    :param key: a line of authorized_keys
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
        LOG.warning("The SSH key is not injected: %s", error, instance=instance)


def _read(client: DockerClient, name: str, path: str) -> bytes:
    """The content of a file of an image; nothing for what is no regular file.

    :raises DockerError: when it is too large
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
    """Find a user in an image's /etc/passwd.

    :raises ValueError: when there is none, or no such home
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


def _directory(path: str, owner: User) -> Entry:
    entry = _entry(path, owner, 0o700)
    entry.type = tarfile.DIRTYPE
    return entry, b""


def _entry(path: str, owner: User, mode: int) -> tarfile.TarInfo:
    # The engine would refuse what leads out of the root, a shell does not.
    name = posixpath.normpath(f"/{path}").lstrip("/")
    if not name or "\0" in name:
        raise ValueError(f"not a path of a file: {path!r}")
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
