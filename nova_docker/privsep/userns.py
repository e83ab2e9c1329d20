# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on servers' user namespaces.

A server's user namespace is pinned at :data:`_PINS`, below the server's name, from the
first time its NICs are plugged until its container is gone. It is created by the user
ID with which its range of ids begins, so that

* the pins are the record of the ranges in use: the kernel knows the creator of each
  (NS_GET_OWNER_UID). All engines of the host share it.
* what the kernel counts per creator of a namespace, for example inotify instances, it
  counts for each server.

All that is below /run: no range outlives a restart of the host.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import pathlib
import struct
from collections.abc import Iterator
from typing import TextIO

from pyroute2 import netns as pr2_netns

from nova_docker import id_ranges
from nova_docker.privsep import child
from nova_docker.privsep import mount_api
from nova_docker.privsep import netns_names
from nova_docker.privsep.contexts import userns_admin

# The OCI runtime reads the pins.
_DIRECTORY = pathlib.Path("/run/nova-docker")
_PINS = _DIRECTORY / "userns"
# Which engine a server belongs to: links to no file, but to the engine's identifier.
# What is inside of a server's namespaces says nothing.
_OWNERS = _DIRECTORY / "owners"
# Held while a range is chosen; contains the one that was chosen last.
_LOCK = _DIRECTORY / "lock"

_NS_GET_USERNS, _NS_GET_OWNER_UID = 0xB701, 0xB704
_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP = 28, 4
_MS_BIND, _MNT_DETACH = 0x1000, 2


@userns_admin.entrypoint
def pin(name: str, owner: str, start: int, count: int) -> int:
    """Create a server's user namespace, unless it exists.

    A new one gets a network namespace as well, which replaces what has its name.

    :param name: the server's, as that of its network namespace
    :param owner: identifies the server's engine
    :param start: first id of all servers
    :param count: number of ids of all servers
    :returns: the first of the host's ids that the server has
    :raises NoneLeft: if all ranges are in use
    """
    with _locked() as lock:
        _write_owner(name, owner)
        base = base_of(name)
        if base is not None:
            return base
        base = id_ranges.choose(_used(), start, count, _last(lock))
        # Written first: a range that is lost here is only used later.
        lock.truncate(0)
        print(base, file=lock, flush=True)
        with _created(base, (child.unshare_network, "net")) as (made, user):
            with netns_names.coming_back():
                pr2_netns.setns(made.next())
                netns_names.give(name)
            # Last: what has no pin is created once more.
            bind(user, _PINS / name)
        return base


@userns_admin.entrypoint
def release(name: str) -> None:
    """Release the ids of a server whose processes have all ended, if it has any."""
    with _locked():
        unbind(_PINS / name)
        (_OWNERS / name).unlink(missing_ok=True)


@userns_admin.entrypoint
def owned_by(owner: str) -> list[str]:
    """Return the names of the servers of an engine that have ids."""
    with _locked():
        return sorted(p.name for p in _OWNERS.iterdir() if owner_of(p.name) == owner)


@userns_admin.entrypoint
def probe(directory: str, base: int) -> None:
    """Try on a file system what the OCI runtime does with a server's files.

    :param directory: a directory of the engine's data
    :param base: first id of all servers
    :raises OSError: if the kernel or the file system cannot do it
    """
    with (
        _locked(),
        _created(base) as (_, user),
        child.making((functools.partial(_try_idmap, directory, user), "mnt")) as made,
    ):
        made.next()


def base_of(name: str) -> int | None:
    """Return the first id of a server; None if it has no user namespace."""
    try:
        fd = os.open(_PINS / name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        found = fcntl.ioctl(fd, _NS_GET_OWNER_UID, b"\0\0\0\0")
    except OSError as error:
        # A daemon that is killed before the bind mount leaves a plain file.
        if error.errno not in (errno.ENOTTY, errno.EINVAL):
            raise
        return None
    finally:
        os.close(fd)
    [base] = struct.unpack("I", found)
    return int(base)


def owner_of(name: str) -> str | None:
    """Return the engine of a server that has a user namespace, or had one."""
    with contextlib.suppress(OSError):
        return os.readlink(_OWNERS / name)
    return None


def path_of(name: str) -> str:
    """Return the path of a server's user namespace.

    :raises FileNotFoundError: if it has none
    """
    if base_of(name) is None:
        raise FileNotFoundError(errno.ENOENT, "No user namespace", name)
    return str(_PINS / name)


def owns(userns: int, namespace: int) -> bool:
    """Return whether a user namespace owns another namespace.

    :param userns: its descriptor
    :param namespace: the other one's descriptor
    """
    fd = fcntl.ioctl(namespace, _NS_GET_USERNS)
    try:
        return os.path.samestat(os.fstat(fd), os.fstat(userns))
    finally:
        os.close(fd)


def bind(fd: int, path: pathlib.Path) -> None:
    """Give a namespace a name, which keeps it alive."""
    path.touch(mode=0o444)
    source = f"/proc/thread-self/fd/{fd}".encode()
    child.check(
        child.libc.mount(source, bytes(path), None, _MS_BIND, None), f"mount {path}"
    )


def unbind(path: pathlib.Path) -> None:
    """Remove a namespace's name, complete or not, if it exists."""
    # Several, should they lie on top of each other.
    while child.libc.umount2(bytes(path), _MNT_DETACH) == 0:
        pass
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked() -> Iterator[TextIO]:
    for directory, mode in (_DIRECTORY, 0o711), (_PINS, 0o700), (_OWNERS, 0o700):
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
            # Whatever the umask is
            directory.chmod(mode)
    with _LOCK.open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _last(lock: TextIO) -> int:
    """Return the first id of the range that was chosen last, -1 if it is unknown."""
    lock.seek(0)
    with contextlib.suppress(ValueError):
        return int(lock.read())
    return -1


def _used() -> list[int]:
    bases = (base_of(path.name) for path in _PINS.iterdir())
    return [base for base in bases if base is not None]


def _write_owner(name: str, owner: str) -> None:
    # A link is made at once. A daemon that is killed leaves none without an owner.
    if owner_of(name) != owner:
        (_OWNERS / name).unlink(missing_ok=True)
        (_OWNERS / name).symlink_to(owner)


@contextlib.contextmanager
def _created(base: int, *steps: child.Step) -> Iterator[tuple[child.Making, int]]:
    """Create a user namespace with a range of ids.

    :param steps: which other namespaces, of its own, the child makes next
    :yields: the child that has made it, and its descriptor
    """
    unshare = functools.partial(_unshare_as, base)
    with child.making((unshare, "user"), *steps) as made:
        user = made.next()
        for kind in ("uid", "gid"):
            # In one write(2), as the kernel demands. Before other namespaces are made:
            # the kernel gives their files in /proc to the root that is mapped then.
            pathlib.Path(f"/proc/{made.pid}/{kind}_map").write_text(
                f"0 {base} {id_ranges.SIZE}"
            )
        yield made, user


def _unshare_as(base: int) -> None:
    """Create a user namespace as another user, in a child process."""
    # With the capabilities that a change of the user would take away: where the host
    # forbids user namespaces to users, it does not forbid this one.
    child.check(
        child.libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0), "prctl"
    )
    os.setresgid(base, base, base)
    os.setresuid(base, base, base)
    child.check(child.libc.unshare(child.CLONE_NEWUSER), "unshare")


# What follows is the OCI runtime's way to mount a server's files, in lib/.

_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18


def _try_idmap(directory: str, userns: int) -> None:
    """Mount an overlay of a directory with other ids, in a child process.

    The child has mounts of its own, which end with it.
    """
    child.check(child.libc.unshare(child.CLONE_NEWNS), "unshare")
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    place = bytes(_DIRECTORY)
    _mount(b"tmpfs", place, b"tmpfs", 0, None)
    for name in (b"idmapped", b"empty", b"merged"):
        os.mkdir(os.path.join(place, name))
    tree = mount_api.clone(directory)
    mount_api.change(tree, set=mount_api.IDMAP, userns=userns)
    mount_api.move(tree, os.path.join(os.fsdecode(place), "idmapped"))
    lower = os.path.join(place, b"idmapped") + b":" + os.path.join(place, b"empty")
    merged = os.path.join(place, b"merged")
    _mount(b"overlay", merged, b"overlay", 0, b"lowerdir=" + lower)


def _mount(
    source: bytes, target: bytes, kind: bytes | None, flags: int, data: bytes | None
) -> None:
    child.check(child.libc.mount(source, target, kind, flags, data), "mount")
