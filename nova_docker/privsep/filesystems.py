# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on the file systems of servers' volumes.

The host mounts the file system of a volume once, at ``<server>/<device>`` below
:data:`DIRECTORY`. These mounts are the record of what a server has: the OCI runtime
binds them into it at each start, and nothing else is stored. They end with the host, as
the directory on /run does. A server that runs gets a copy of the mount.

What may wait for storage, or for the kernel's driver of a hostile file system, is in a
daemon of its own. What enters a server is in that of the devices.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from nova_docker.privsep import child
from nova_docker.privsep import devices
from nova_docker.privsep import mount_api
from nova_docker.privsep import programs
from nova_docker.privsep import userns
from nova_docker.privsep.contexts import devices_admin
from nova_docker.privsep.contexts import filesystems_admin
from nova_docker.volume import superblocks

# The OCI runtime reads it.
DIRECTORY = pathlib.Path("/run/nova-docker/filesystems")
#: Where a server finds the file systems, by the names of their devices
TOP = "mnt"

_MOUNTS = pathlib.Path("/proc/self/mountinfo")

_MIB = 1 << 20
_FIRST = 4096  # bytes
# How much is read of a volume that may be blank: so many times so many bytes, and the
# places near its beginning
_SAMPLES, _SAMPLE, _NEAR = 256, 4096, 1 << 30
_SECONDS = 600  # for a program, of which some write much
_FREE_SECONDS = 2
_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_ATTEMPTS = 10
# A path of a server is not there any more.
_MOVED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

# In the last MiB of a blank volume while it is formatted: if that is interrupted, it is
# blank no more, and yet nobody's data is on it. The UUID of the file system follows.
_MARK = b"nova-docker is making a file system".ljust(64, b"\0")
_UUID_SIZE = 16

_BLKID_FOUND, _BLKID_NOTHING, _BLKID_UNCERTAIN = 0, 2, 8

_directories = threading.Lock()


class Mounted(NamedTuple):
    """A file system that is mounted on the host.

    :ivar number: of the block device
    :ivar driver: the kernel's name of the file system
    :ivar read_only: whether it cannot be written
    """

    server: str
    device: str
    number: str
    driver: str
    read_only: bool


@filesystems_admin.entrypoint
def look(path: str) -> dict[str, Any]:
    """Find out what is on a volume.

    :param path: of its block device
    :returns: ``kind``: what blkid calls the content; ``nothing``: whether it has found
        nothing; ``blank``: whether samples of it are zero, too; ``mark``: the UUID of a
        file system that was being made, or None; ``first``: the first bytes; ``size``:
        in bytes
    :raises OSError: if it cannot be read
    """
    found = _probe(path)
    names = dict(re.findall(r"^([A-Z_]+)=(.*)$", found.said, re.MULTILINE))
    kind = names.get("TYPE")
    if not kind and "PTTYPE" in names:
        kind = f"a partition table ({names['PTTYPE']})"
    if found.code == _BLKID_UNCERTAIN:
        kind = "several signatures"
    with open(path, "rb", buffering=0) as volume:
        size = volume.seek(0, os.SEEK_END)
        first, last = _read(volume, 0), _read(volume, _tail(size))
        nothing = found.code == _BLKID_NOTHING
        blank = nothing and size > 4 * _MIB and not (any(first) or any(last))
        blank = blank and _looks_empty(volume, size)
    mark = None
    if last.startswith(_MARK) and not any(last[len(_MARK) + _UUID_SIZE :]):
        mark = last[len(_MARK) :][:_UUID_SIZE]
    return {
        "kind": kind,
        "blank": blank,
        "nothing": nothing,
        "mark": mark,
        "first": first[:_FIRST],
        "size": size,
    }


def _looks_empty(volume: Any, size: int) -> bool:
    """Return whether samples of a volume are zero.

    Somebody may have cleared the beginning of a volume only. Copies of a superblock of
    ext4 are at multiples of 8 MiB and of 128 MiB.
    """
    near = range(0, min(size, _NEAR), 8 * _MIB)
    groups = range(0, min(size, _SAMPLES * 128 * _MIB), 128 * _MIB)
    anywhere = range(0, size, max(size // _SAMPLES, _SAMPLE))
    for position in sorted({*near, *groups, *anywhere}):
        volume.seek(position)
        if any(volume.read(_SAMPLE)):
            return False
    return True


@filesystems_admin.entrypoint
def make(path: str, uuid: bytes) -> None:
    """Make a file system on a volume that is blank, or on which that was interrupted.

    It leaves out the end of the volume, where the mark is meanwhile.

    :param uuid: of the file system
    :raises OSError: EEXIST if a signature is on it; or if it cannot be made
    """
    # Without a terminal, mkfs asks nobody and writes over everything.
    if _probe(path).code != _BLKID_NOTHING:
        raise OSError(errno.EEXIST, f"{path} is not blank, and is not formatted")
    with open(path, "r+b", buffering=0) as volume:
        tail = _tail(volume.seek(0, os.SEEK_END))
        _write(volume, tail, _MARK + uuid)
        programs.run(
            *("mkfs.ext4", "-q", "-E", "nodiscard", "-U", _text(uuid)),
            *("--", path, f"{tail // 1024}k"),
            seconds=_SECONDS,
        )
        os.fsync(volume)
        _write(volume, tail, bytes(len(_MARK + uuid)))


@filesystems_admin.entrypoint
def unmark(path: str) -> None:
    """Remove the mark from a volume with a file system that is complete."""
    with open(path, "r+b", buffering=0) as volume:
        tail = _tail(volume.seek(0, os.SEEK_END))
        _write(volume, tail, bytes(len(_MARK) + _UUID_SIZE))


@filesystems_admin.entrypoint
def mount(server: str, device: str, path: str, driver: str, options: str) -> None:
    """Mount the file system of a volume for a server. If that fails, nothing is left.

    :param server: its name, as that of its network namespace
    :param device: name of the volume's device
    :param path: of the volume on the host
    :param driver: the kernel's name of the file system; no other one is tried
    :param options: of mount(8), comma-separated
    :raises OSError: if it cannot be mounted
    """
    place = DIRECTORY / server / device
    with _directories:
        _share_directory()
        for directory in place.parent, place:
            directory.mkdir(mode=0o700, exist_ok=True)
    try:
        _run_mount("-t", driver, "-o", options, "--", path, place)
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            # It may have been mounted at the last moment.
            child.libc.umount2(os.fsencode(place), _DETACH | _UMOUNT_NOFOLLOW)
        _remove_directories(place)
        raise


@filesystems_admin.entrypoint
def unmount(server: str, device: str) -> None:
    """Unmount a file system of a server, if it is mounted.

    It stays mounted if any mount namespace has it: the volume must not be disconnected.

    :raises OSError: EBUSY if it is in use
    """
    place = DIRECTORY / server / device
    for found in mounted(server):
        if found.device == device:
            _umount(place)
            try:
                _wait_until_free(found.number)
            except OSError:
                # What is mounted already keeps its options.
                options = superblocks.options(found.driver, read_only=found.read_only)
                path = devices.path_of(found.number)
                _run_mount("-t", found.driver, "-o", options, "--", path, place)
                raise
    _remove_directories(place)


@filesystems_admin.entrypoint
def grow(server: str, device: str, path: str, driver: str) -> None:
    """Let a file system that is mounted fill its volume.

    :param path: of the volume on the host
    :param driver: the kernel's name of the file system
    :raises OSError: if it cannot grow
    """
    if driver == "xfs":
        programs.run("xfs_growfs", "-d", DIRECTORY / server / device, seconds=_SECONDS)
    else:
        programs.run("resize2fs", path, seconds=_SECONDS)


@devices_admin.entrypoint
def insert(
    server: str, device: str, pid: int, container: str, limits: Mapping[str, int]
) -> None:
    """Give a file system that is mounted on the host to a server that runs.

    It stays as it is if the server has it.

    :param pid: of its first process
    :param container: the engine's id of its container
    :param limits: as :func:`nova_docker.container.quota.reads` returns them
    :raises ProcessLookupError: if that is no process of the container, or no longer
    :raises FileExistsError: if there is no place for it in the server
    :raises OSError: if the kernel refuses
    """
    place = DIRECTORY / server / device
    number = place.stat().st_dev
    root = userns.base_of(server)
    with (
        devices.process_of(pid, container) as process,
        devices.closing(mount_api.clone(str(place))) as tree,
        devices.closing(os.open("ns/mnt", os.O_RDONLY, dir_fd=process)) as namespace,
    ):
        mount_api.change(
            tree,
            set=mount_api.NOSUID | mount_api.NODEV,
            propagation=mount_api.PRIVATE,
        )
        if root is not None:
            pin = os.open(userns.path_of(server), os.O_RDONLY)
            with devices.closing(pin):
                mount_api.change(tree, set=mount_api.IDMAP, userns=pin)
        devices.limit(process, _number(number), limits)
        child.run(
            functools.partial(_mount_in, namespace, tree, device, number, root or 0)
        )


@devices_admin.entrypoint
def remove(number: str, pid: int, container: str) -> None:
    """Take a file system from a server that runs, if it has it.

    :param number: of its block device
    :param pid: of its first process
    :param container: the engine's id of its container
    :raises ProcessLookupError: if that is no process of the container, or no longer
    :raises OSError: EBUSY if it is in use
    """
    with (
        devices.process_of(pid, container) as process,
        devices.closing(os.open("ns/mnt", os.O_RDONLY, dir_fd=process)) as namespace,
        devices.closing(os.open("/proc", os.O_PATH | os.O_DIRECTORY)) as proc,
    ):
        child.run(functools.partial(_umount_in, namespace, proc, number))


@devices_admin.entrypoint
def users(number: str, container: str) -> list[str]:
    """Return some processes of a server that use a file system, for a message.

    :param number: of its block device
    :param container: the engine's id of its container
    :returns: for each, its ID in the server and its name, which the server chooses
    """
    return devices.using(container, functools.partial(_uses, number=number))


def mounted(server: str | None = None) -> list[Mounted]:
    """Return the file systems of a server, or of all. Needs no privileges.

    It asks no file system.
    """
    found = []
    for number, point, flags, driver in _points(_MOUNTS):
        with contextlib.suppress(ValueError):
            owner, device = pathlib.PurePath(point).relative_to(DIRECTORY).parts
            if server in (None, owner):
                read_only = "ro" in flags.split(",")
                found.append(Mounted(owner, device, number, driver, read_only))
    return found


def recorded(server: str) -> dict[str, str]:
    """Return the numbers of a server's devices, by their names. Needs no privileges."""
    return {found.device: found.number for found in mounted(server)}


def owners(number: str) -> list[str]:
    """Return the names of the servers that have a device. Needs no privileges."""
    return sorted(found.server for found in mounted() if found.number == number)


def _probe(path: str) -> programs.Ended:
    return programs.run(
        *("blkid", "--probe", "--output=export", "--", path),
        seconds=_SECONDS,
        accepted=(_BLKID_FOUND, _BLKID_NOTHING, _BLKID_UNCERTAIN),
    )


def _points(mountinfo: pathlib.Path) -> Iterator[tuple[str, str, str, str]]:
    for line in mountinfo.read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        _, _, number, _, point, flags, *_ = left.split(" ")
        yield number, point, flags, right.split(" ")[0]


def _share_directory() -> None:
    """Make the directory a mount, whose copies lose what is unmounted on it.

    Whoever makes a mount namespace has copies of the host's mounts: systemd for some
    services, and the OCI runtime. They would keep a volume in use.
    """
    with contextlib.suppress(FileExistsError):
        DIRECTORY.parent.mkdir()
        # Whatever the umask is
        DIRECTORY.parent.chmod(0o711)
    DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    points = [point for _, point, _, _ in _points(_MOUNTS)]
    if str(DIRECTORY) not in points:
        # Not a bind mount: it would be a peer of the mount of /run, where that is
        # shared, and everything would be mounted twice.
        options = "mode=700,nosuid,nodev,noexec,size=1m"
        _run_mount("-t", "tmpfs", "-o", options, "nova-docker", DIRECTORY)
    # Also if it was interrupted
    _run_mount("--make-shared", DIRECTORY)


def _run_mount(*arguments: str | pathlib.Path) -> None:
    programs.run("mount", "--internal-only", *arguments, seconds=_SECONDS)


def _remove_directories(place: pathlib.Path) -> None:
    """Remove the directories of a file system, those that are in use excepted."""
    with _directories, contextlib.suppress(OSError):
        for directory in place, place.parent:
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()
        if not any(DIRECTORY.iterdir()):
            _umount(DIRECTORY)
            DIRECTORY.rmdir()


def _umount(place: str | pathlib.Path) -> None:
    child.check(
        child.libc.umount2(os.fsencode(place), _UMOUNT_NOFOLLOW), f"umount {place}"
    )


def _wait_until_free(number: str) -> None:
    """Wait until no mount has a device any more, wherever it is.

    :raises OSError: EBUSY if something keeps it
    """
    deadline = time.monotonic() + _FREE_SECONDS
    while True:
        try:
            path = devices.path_of(number)
            os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            return
        except OSError as error:
            # Otherwise the device has vanished.
            if error.errno != errno.EBUSY:
                return
            if time.monotonic() > deadline:
                raise OSError(
                    errno.EBUSY,
                    "another mount namespace of the host still has the file system",
                ) from None
        time.sleep(0.05)


def _tail(size: int) -> int:
    """Return where the last MiB of a volume begins."""
    return max(size - _MIB, 0) // _FIRST * _FIRST


def _read(volume: Any, start: int) -> bytes:
    volume.seek(start)
    return (
        b"".join(iter(lambda: volume.read(_MIB), b"")) if start else volume.read(_MIB)
    )


def _write(volume: Any, start: int, content: bytes) -> None:
    os.pwrite(volume.fileno(), content, start)
    os.fsync(volume)


def _text(uuid: bytes) -> str:
    digits = uuid.hex()
    parts = (0, 8), (8, 12), (12, 16), (16, 20), (20, 32)
    return "-".join(digits[start:end] for start, end in parts)


def _uses(process: pathlib.Path, number: str) -> bool:
    """Return whether a process has anything of a file system open."""
    links = [process / name for name in ("cwd", "root", "exe")]
    for path in (*links, *(process / "fd").iterdir()):
        with contextlib.suppress(OSError):
            if _number(path.stat().st_dev) == number:
                return True
    major, minor = map(int, number.split(":"))
    mapped = (process / "maps").read_text(errors="replace").splitlines()
    return any(line.split()[3] == f"{major:02x}:{minor:02x}" for line in mapped)


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


# What follows runs in a child, which makes system calls only.


def _mount_in(namespace: int, tree: int, device: str, number: int, root: int) -> None:
    """Mount a file system in a server.

    :param root: the host's id of the server's root
    """
    child.check(child.libc.setns(namespace, child.CLONE_NEWNS), "setns")
    top = os.open("/", os.O_PATH | os.O_DIRECTORY)
    devices.act_as(root)
    parent = _directory(top, TOP)
    place = _directory(parent, device)
    devices.act_as(0)
    found = os.fstat(place).st_dev
    if found == number:
        return
    if found != os.fstat(parent).st_dev:
        raise OSError(errno.EEXIST, f"something is mounted at /{TOP}/{device}")
    # The server may have renamed the directory before. It stays the server's.
    mount_api.move_onto(tree, place)


def _directory(parent: int, name: str) -> int:
    """Open a directory of a server, which is made if it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return os.open(name, flags, dir_fd=parent)
    except NotADirectoryError:
        raise OSError(
            errno.EEXIST,
            f"{name}, of the path /{TOP}/…, is a file or a symbolic link in the server",
        ) from None


def _umount_in(namespace: int, proc: int, number: str) -> None:
    """Unmount a file system in a server, wherever the server has moved it to."""
    child.check(child.libc.setns(namespace, child.CLONE_NEWNS), "setns")
    top = os.open("/", os.O_PATH | os.O_DIRECTORY)
    for _ in range(_ATTEMPTS):
        points = _points_in(proc, number)
        if not points:
            return
        for point in reversed(points):
            _umount_at(top, point, number)
    raise OSError(errno.EBUSY, "the server keeps moving it")


def _points_in(proc: int, number: str) -> list[str]:
    """Return where a file system is mounted, in this process's view.

    :param proc: descriptor of the host's /proc
    """
    fd = os.open("self/mountinfo", os.O_RDONLY, dir_fd=proc)
    with os.fdopen(fd, errors="surrogateescape", newline="\n") as lines:
        found = [line.split(" ") for line in lines]
    return [_unescape(words[4]) for words in found if words[2] == number]


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _umount_at(top: int, point: str, number: str) -> None:
    """Unmount a file system, unless something else is at its path meanwhile.

    Once it was found in a directory, nobody can put something else in its place there:
    the kernel lets nobody rename what is mounted.
    """
    parent, _, name = point.rpartition("/")
    try:
        directory = mount_api.open_beneath(top, parent or "/")
        place = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if error.errno in _MOVED:
            return
        raise
    is_there = _number(os.fstat(place).st_dev) == number
    # It would keep the mount in use.
    os.close(place)
    if is_there:
        os.fchdir(directory)
        _umount(name)
