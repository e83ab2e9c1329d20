# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on the writable layers of servers that move to another host.

A layer travels as a tar archive, with the owners, extended attributes and device nodes
by which overlayfs remembers what has been deleted. What arrives is unpacked below
:data:`STAGE` of the engine's directory. The other host may be in the hands of an
attacker: the program that unpacks can write nowhere else, whatever the archive says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from collections.abc import Sequence

from oslo_privsep import capabilities

from nova_docker.privsep import child
from nova_docker.privsep import mount_api
from nova_docker.privsep.contexts import layers_admin

#: Below the engine's directory, so that a layer becomes the server's by a rename
STAGE = "nova-docker-arriving"

_MAX_OUTPUT = 1000  # bytes
_FULL = 1 << 16  # bytes
_TAR = (
    "tar",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    # It names a file of the other host's file system.
    "--xattrs-exclude=trusted.overlay.origin",
)


# What tar needs for files of any owner, and for trusted.* attributes. It can make no
# devices: those of overlayfs are no devices for the kernel.
_CAPABILITIES = (
    capabilities.CAP_CHOWN,
    capabilities.CAP_DAC_OVERRIDE,
    capabilities.CAP_FOWNER,
    capabilities.CAP_FSETID,
    capabilities.CAP_SETFCAP,
    capabilities.CAP_SYS_ADMIN,
)
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_MOST_CAPABILITIES = 64
# struct fsxattr: flags at its begin, and the project
_GET_PROJECT, _SET_PROJECT, _PROJECT = 0x801C581F, 0x401C5820, struct.Struct("=12xI12x")
_INHERIT = 0x200


@layers_admin.entrypoint
def size(layer: str) -> tuple[int, int]:
    """Return how many bytes of the disk a layer has, and how many inodes.

    :param layer: the directory, in which a server may be writing
    :raises OSError: if it cannot be read
    """
    return _du(layer, "--block-size=1"), _du(layer, "--inodes")


@layers_admin.entrypoint
def pack(layer: str, address: str) -> None:
    """Send a layer to a socket.

    :param layer: the directory
    :param address: of a unix socket that somebody listens on
    :raises OSError: if it cannot be read or sent
    """
    with _connected(address) as stream:
        _run(
            [*_TAR, "--create", "--sparse", "--one-file-system", "."],
            directory=layer,
            stdout=stream.fileno(),
        )


@layers_admin.entrypoint
def unpack(root: str, server: str, address: str) -> None:
    """Receive a layer from a socket, instead of another one of the same server.

    :param root: the engine's directory
    :param server: its name, as that of its network namespace
    :param address: of a unix socket that somebody listens on
    :raises OSError: if it cannot be received or written
    """
    place = _place(root, server)
    _discard(place)
    place.parent.mkdir(mode=0o700, exist_ok=True)
    place.mkdir(mode=0o755)
    with _connected(address) as stream, _named_if_full(place):
        _run(
            [*_TAR, "--extract", "--preserve-permissions", "--same-owner"],
            directory=str(place),
            stdin=stream.fileno(),
            confined=True,
        )


@layers_admin.entrypoint
def adopt(root: str, server: str, layer: str) -> None:
    """Make what :func:`unpack` has received the layer of a container that never ran.

    :param layer: the directory, which is empty
    :raises OSError: if it is not, or nothing was received
    """
    place = _place(root, server)
    found = os.stat(layer)
    _join_project(place, _project_of(layer))
    # The root directory of the server: its owner and mode have arrived with it.
    os.rmdir(layer)
    try:
        place.rename(layer)
    except OSError:
        os.mkdir(layer, 0o755)
        os.chown(layer, found.st_uid, found.st_gid)
        raise


@layers_admin.entrypoint
def discard(root: str, server: str) -> None:
    """Remove what :func:`unpack` has received, if it is there."""
    _discard(_place(root, server))


def _place(root: str, server: str) -> pathlib.Path:
    return pathlib.Path(root, STAGE, server)


def _discard(place: pathlib.Path) -> None:
    # Python's own function fails for directories that are nested too deeply.
    _run(["rm", "--recursive", "--force", "--", str(place)], directory="/")


@contextlib.contextmanager
def _named_if_full(place: pathlib.Path) -> Iterator[None]:
    """Say that the disk is full, which tar does not always do."""
    try:
        yield
    except OSError as error:
        found = os.statvfs(place)
        is_full = found.f_bavail * found.f_frsize < _FULL
        if is_full or (found.f_files and not found.f_favail):
            reason = f"{os.strerror(errno.ENOSPC)}: {error.strerror}"
            raise OSError(errno.ENOSPC, reason) from error
        raise


def _du(layer: str, unit: str) -> int:
    found = subprocess.run(
        ["du", "--summarize", "--one-file-system", unit, "."],
        cwd=layer,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    ).stdout
    # It fails if a file is deleted meanwhile, and says how large the others are.
    if not found:
        raise OSError(errno.EIO, f"the size of {layer} is unknown")
    return int(found.split()[0])


def _project_of(directory: str) -> int:
    """Return the project of a file system with quotas of projects, 0 if it has none."""
    attributes = bytearray(_PROJECT.size)
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, _GET_PROJECT, attributes)
    except OSError:
        return 0
    finally:
        os.close(fd)
    return int(_PROJECT.unpack(attributes)[0])


def _join_project(top: pathlib.Path, project: int) -> None:
    """Let files count for the project by which the engine limits a server's disk.

    Only then can they be moved below the server's directory.
    """
    left = [str(top)] if project else []
    while left:
        path = left.pop()
        # Nobody else changes the files: a link cannot take the place of a directory.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
            attributes = bytearray(_PROJECT.size)
            fcntl.ioctl(fd, _GET_PROJECT, attributes)
            struct.pack_into("=I", attributes, 12, project)
            if is_directory:
                flags = struct.unpack_from("=I", attributes)[0]
                struct.pack_into("=I", attributes, 0, flags | _INHERIT)
            fcntl.ioctl(fd, _SET_PROJECT, attributes)
        finally:
            os.close(fd)
        if is_directory:
            with os.scandir(path) as entries:
                left += [
                    entry.path
                    for entry in entries
                    if entry.is_dir(follow_symlinks=False)
                    or entry.is_file(follow_symlinks=False)
                ]


@contextlib.contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(address)
        yield stream


def _run(
    command: Sequence[str],
    *,
    directory: str,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
    confined: bool = False,
) -> None:
    """Run a program in a directory.

    :param confined: whether it may write in that directory only
    :raises OSError: if it fails, with the end of its output
    """
    with os.fdopen(os.memfd_create("output"), "w+b") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=stdin,
            stdout=stdout,
            stderr=output,
            env=os.environ | {"LC_ALL": "C"},
            preexec_fn=_confine if confined else None,
        )
        if process.wait():
            said = os.pread(output.fileno(), _MAX_OUTPUT, 0)
            raise OSError(errno.EIO, said.decode(errors="replace").strip())


def _confine() -> None:
    """Make everything read-only except the working directory. It runs in the child."""
    child.check(child.libc.unshare(child.CLONE_NEWNS), "unshare")
    mount_api.confine_to(os.getcwd())
    for capability in range(_MOST_CAPABILITIES):
        # This kernel may have fewer.
        known = child.libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0
        if known and capability not in _CAPABILITIES:
            child.check(
                child.libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0), "prctl"
            )
