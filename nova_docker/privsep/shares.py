# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on the mounts of servers' shares.

A share is mounted once for each server, at ``<server>/<share>/<tag>`` below
:data:`DIRECTORY`. These mounts are the record of what a server has: the OCI runtime
looks for them at each start, and nothing else is stored. They end with the host, as the
directory on /run does.

They belong to a daemon of their own: its threads wait for storage that may not answer,
and the others must not.
"""

from __future__ import annotations

import contextlib
import pathlib

from nova_docker.privsep import programs
from nova_docker.privsep.contexts import shares_admin

# The OCI runtime reads it.
DIRECTORY = pathlib.Path("/run/nova-docker/shares")


@shares_admin.entrypoint
def mount(
    server: str,
    share: str,
    tag: str,
    kind: str,
    source: str,
    options: str,
    seconds: float,
) -> None:
    """Mount a share for a server. If that fails, nothing of it is left.

    :param server: its name, as that of its network namespace
    :param share: its ID
    :param kind: type of the file system, as of mount(8)
    :param source: what to mount
    :param options: of mount(8), comma-separated
    :param seconds: that it may take
    :raises OSError: if it cannot be mounted, or not in time
    """
    place = DIRECTORY / server / share / tag
    for directory in (DIRECTORY.parent, DIRECTORY, *reversed(place.parents[:2]), place):
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
            # Whatever the umask is
            directory.chmod(0o711 if directory == DIRECTORY.parent else 0o700)
    try:
        programs.run(
            "mount", "-t", kind, "-o", options, "--", source, place, seconds=seconds
        )
    except OSError:
        # It may have been mounted at the last moment.
        with contextlib.suppress(OSError):
            _unmount(place, seconds)
        with contextlib.suppress(OSError):
            _remove_directories(place)
        raise


@shares_admin.entrypoint
def unmount(server: str, share: str, tag: str, seconds: float) -> None:
    """Unmount a share of a server, even one that does not answer.

    :param seconds: that it may take
    :raises OSError: if it cannot be unmounted
    """
    place = DIRECTORY / server / share / tag
    _unmount(place, seconds)
    _remove_directories(place)


@shares_admin.entrypoint
def ask(server: str, share: str, tag: str, seconds: float) -> None:
    """Look at the file system of a share that is mounted.

    :param seconds: that it may take
    :raises OSError: if it does not answer
    """
    programs.run(
        "stat", "--file-system", DIRECTORY / server / share / tag, seconds=seconds
    )


def _unmount(place: pathlib.Path, seconds: float) -> None:
    # Lazily, and without the helper of the file system: neither waits for the storage.
    options = ("--internal-only", "--lazy", "--no-canonicalize")
    programs.run("umount", *options, place, seconds=seconds)


def _remove_directories(place: pathlib.Path) -> None:
    """Remove a directory that is not mounted, and those above that are empty."""
    with contextlib.suppress(FileNotFoundError):
        place.rmdir()
    for directory in place.parents[:2]:
        with contextlib.suppress(OSError):
            directory.rmdir()
