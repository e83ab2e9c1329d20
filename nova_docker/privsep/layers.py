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
import os
import pathlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from collections.abc import Sequence

from nova_docker.privsep import child
from nova_docker.privsep import mount_api
from nova_docker.privsep.contexts import layers_admin

#: Below the engine's directory, so that a layer becomes the server's by a rename
STAGE = "nova-docker-arriving"

_MAX_OUTPUT = 1000  # bytes
_TAR = (
    "tar",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    # It names a file of the other host's file system.
    "--xattrs-exclude=trusted.overlay.origin",
)


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
    with _connected(address) as stream:
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


@layers_admin.entrypoint
def waiting(root: str) -> list[str]:
    """Return the names of the servers whose layers have been received."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(os.listdir(pathlib.Path(root, STAGE)))
    return []


def _place(root: str, server: str) -> pathlib.Path:
    return pathlib.Path(root, STAGE, server)


def _discard(place: pathlib.Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(place)


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
