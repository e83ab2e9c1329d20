# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on servers' block devices.

Below :data:`_DIRECTORY`, each server has a directory with the device nodes that it is
given, by the names that they have in its /dev. These nodes are the record of what a
server has: the OCI runtime reads them at each start, and nothing else is stored. They
are on the host's /run, since numbers of devices do not outlive a restart of the host.

A server sees a node as a mount of its own, not as a file. So the kernel counts who has
the device open, wherever the descriptor is: on the way through a socket too, where no
list of a process's files shows it. A mount that is in use cannot be removed.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pathlib
import stat
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping

from nova_docker.privsep import child
from nova_docker.privsep import mount_api
from nova_docker.privsep import userns
from nova_docker.privsep.contexts import devices_admin

# The OCI runtime reads it.
_DIRECTORY = pathlib.Path("/run/nova-docker/devices")
# Of version 1: with version 2, no server that runs gets a device.
_CGROUPS = pathlib.Path("/sys/fs/cgroup")
_PROC = pathlib.Path("/proc")
_BLOCK = pathlib.Path("/sys/dev/block")

_READ_WRITE, _READ_ONLY = 0o600, 0o400
_UMOUNT_NOFOLLOW = 8
_MOST_USERS = 5
# By the keys of HostConfig, which the engine writes for other devices
_THROTTLES = {
    "BlkioDeviceReadBps": "blkio.throttle.read_bps_device",
    "BlkioDeviceReadIOps": "blkio.throttle.read_iops_device",
}
_PIECE = 4 << 20  # bytes


@devices_admin.entrypoint
def record(server: str, device: str, path: str, *, read_only: bool = False) -> None:
    """Note that a server has a device, instead of another one of this name.

    :param server: its name, as that of its network namespace
    :param device: its name in the server's /dev
    :param path: of the block device on the host
    :raises OSError: if there is no such block device
    """
    found = os.stat(path)
    if not stat.S_ISBLK(found.st_mode):
        raise OSError(errno.ENOTBLK, os.strerror(errno.ENOTBLK), path)
    directory = _DIRECTORY / server
    for missing in _DIRECTORY.parent, _DIRECTORY, directory:
        with contextlib.suppress(FileExistsError):
            missing.mkdir()
            # Whatever the umask is
            missing.chmod(0o700 if missing == directory else 0o711)
    mode = _READ_ONLY if read_only else _READ_WRITE
    # At once: the runtime never sees half a record.
    new = directory / f".{device}"
    new.unlink(missing_ok=True)
    os.mknod(new, mode | stat.S_IFBLK, found.st_rdev)
    new.rename(directory / device)


@devices_admin.entrypoint
def forget(server: str, device: str) -> None:
    """Note that a server does not have a device, or no longer."""
    directory = _DIRECTORY / server
    for name in device, f".{device}":
        (directory / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


@devices_admin.entrypoint
def recorded(server: str) -> dict[str, str]:
    """Return the numbers of a server's devices, by their names."""
    return _recorded(_DIRECTORY / server)


@devices_admin.entrypoint
def owners(number: str) -> list[str]:
    """Return the names of the servers that have a device."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(
            found.name
            for found in _DIRECTORY.iterdir()
            if number in _recorded(found).values()
        )
    return []


@devices_admin.entrypoint
def insert(
    server: str, device: str, pid: int, container: str, limits: Mapping[str, int]
) -> None:
    """Give a device that is recorded to a server that runs, unless it has it.

    :param pid: of its first process
    :param container: the engine's id of its container
    :param limits: as :func:`nova_docker.container.quota.reads` returns them
    :raises ProcessLookupError: if that is no process of the container, or no longer
    :raises FileExistsError: if something else has the name in the server
    :raises OSError: if the kernel refuses
    """
    node = _DIRECTORY / server / device
    found = node.stat()
    root = userns.base_of(server) or 0
    os.chown(node, root, root)
    with (
        process_of(pid, container) as process,
        closing(mount_api.clone(str(node))) as t,
    ):
        mount_api.change(
            t,
            set=mount_api.NOSUID | mount_api.NOEXEC,
            # As /run itself usually has it
            clear=mount_api.NODEV,
        )
        access = "r" if found.st_mode & 0o777 == _READ_ONLY else "rw"
        number = _number(found.st_rdev)
        limit(process, number, limits)
        with closing(os.open("ns/mnt", os.O_RDONLY, dir_fd=process)) as namespace:
            child.run(
                functools.partial(_mount, namespace, t, device, found.st_rdev, root)
            )
            try:
                # Last: a server must not open the device at a place of its choice.
                _change_group(process, "allow", number, access)
            except OSError:
                child.run(functools.partial(_unmount, namespace, device, root))
                raise


@devices_admin.entrypoint
def remove(server: str, device: str, number: str, pid: int, container: str) -> None:
    """Take a device from a server that runs, if it has it.

    Nothing changes if it is open, wherever in the server.

    :param number: of the device
    :param pid: of its first process
    :param container: the engine's id of its container
    :raises ProcessLookupError: if that is no process of the container, or no longer
    :raises OSError: EBUSY if it is open
    """
    root = userns.base_of(server) or 0
    with process_of(pid, container) as process:
        with closing(os.open("ns/mnt", os.O_RDONLY, dir_fd=process)) as namespace:
            child.run(functools.partial(_unmount, namespace, device, root))
        _change_group(process, "deny", number)


@devices_admin.entrypoint
def users(number: str, container: str) -> list[str]:
    """Return some processes of a server that have a device open, for a message.

    :param container: the engine's id of its container
    :returns: for each, its ID in the server and its name, which the server chooses
    """
    return using(container, functools.partial(_has_open, number=number))


def using(container: str, uses: Callable[[pathlib.Path], bool]) -> list[str]:
    """Return some processes of a server that use something, as :func:`users` does.

    :param uses: tells whether a process does, by its directory in /proc; may raise
        OSError
    """
    found = []
    for process in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            group = (process / "cgroup").read_text(errors="replace")
            if container in group and uses(process):
                status = (process / "status").read_text(errors="replace")
                fields = dict(line.split(":\t", 1) for line in status.splitlines())
                found.append(f"{fields['NSpid'].split()[-1]} ({fields['Name']})")
    return found[:_MOST_USERS]


@devices_admin.entrypoint
def copy(source: str, target: str) -> None:
    """Copy a block device to another one, which is at least as large.

    :raises OSError: if one cannot be read or written
    """
    with (
        open(source, "rb", buffering=0) as old,
        open(target, "r+b", buffering=0) as new,
    ):
        while piece := old.read(_PIECE):
            view = memoryview(piece)
            while view:
                view = view[new.write(view) :]
        os.fsync(new.fileno())


def has_any(server: str) -> bool:
    """Return whether a server has devices. Needs no privileges."""
    return (_DIRECTORY / server).exists()


def number_of(path: str) -> str:
    """Return the number of a device, ``<major>:<minor>``. Needs no privileges.

    :raises OSError: if there is no such file
    """
    return _number(os.stat(path).st_rdev)


def path_of(number: str) -> str:
    """Return the path of a block device on the host. Needs no privileges.

    :raises OSError: if there is no such device
    """
    for line in (_BLOCK / number / "uevent").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "DEVNAME":
            return f"/dev/{value}"
    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), number)


def _has_open(process: pathlib.Path, number: str) -> bool:
    for path in (process / "fd").iterdir():
        with contextlib.suppress(OSError):
            found = path.stat()
            if stat.S_ISBLK(found.st_mode) and _number(found.st_rdev) == number:
                return True
    return False


def _recorded(directory: pathlib.Path) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError):
        return {
            path.name: _number(path.stat().st_rdev)
            for path in sorted(directory.iterdir())
            if not path.name.startswith(".")
        }
    return {}


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


@contextlib.contextmanager
def closing(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def process_of(pid: int, container: str) -> Iterator[int]:
    """Open a process of a container.

    :yields: a descriptor of its directory in /proc, which becomes no other process's
    """
    gone = ProcessLookupError(errno.ESRCH, f"process {pid} is not of {container}")
    try:
        fd = os.open(_PROC / str(pid), os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        raise gone from None
    with closing(fd):
        # The kernel tells the host's view: the server has no influence on the path.
        if container not in _group(fd, "devices"):
            raise gone
        yield fd


def _group(process: int, controller: str) -> str:
    """Return a process's cgroup of a controller; with cgroup v2, its only one."""
    fd = os.open("cgroup", os.O_RDONLY, dir_fd=process)
    # A server with systemd chooses the names of some, which may contain anything.
    with os.fdopen(fd, errors="surrogateescape", newline="\n") as lines:
        found: dict[str, str] = {}
        for line in lines:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            found |= dict.fromkeys(controllers.split(","), path)
    return found.get(controller) or found.get("", "")


def _change_group(process: int, verb: str, number: str, access: str = "rwm") -> None:
    """Allow or deny the processes of a server to open a device."""
    _write(process, "devices", f"devices.{verb}", f"b {number} {access}")


def limit(process: int, number: str, limits: Mapping[str, int]) -> None:
    """Limit what the processes of a server read from a device.

    It keeps the limits when it loses the device, which may be on the same disk as
    another one.
    """
    for key, rate in limits.items():
        _write(process, "blkio", _THROTTLES[key], f"{_disk_of(number)} {rate}")


def _disk_of(number: str) -> str:
    """Return the number of the whole disk of a device: the kernel limits no parts."""
    found = (_BLOCK / number).resolve()
    if (found / "partition").exists():
        return (found.parent / "dev").read_text().strip()
    return number


def _write(process: int, controller: str, name: str, text: str) -> None:
    """Write to a file of a process's control group.

    :raises ProcessLookupError: if the process has ended
    """
    group = _group(process, controller).strip("/")
    if not group:
        # That of the whole host, to which the kernel moves what has ended
        raise ProcessLookupError(errno.ESRCH, "the process has ended")
    (_CGROUPS / controller / group / name).write_text(text)


# What follows runs in a child, which makes system calls only.


def _mount(namespace: int, tree: int, device: str, number: int, root: int) -> None:
    """Mount a device node in a server's /dev.

    :param root: the host's id of the server's root
    """
    with closing(_enter(namespace)) as dev:
        if not os.statvfs("/").f_flag & os.ST_NODEV:
            # It could detach a loop device from its file, too.
            raise OSError(errno.EPERM, "an earlier release has started the server")
        act_as(root)
        with contextlib.suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
            os.close(os.open(device, flags, 0o600, dir_fd=dev))
        act_as(0)
        with closing(_open(dev, device)) as place:
            found = os.fstat(place)
            # No server can make a device node.
            if stat.S_ISBLK(found.st_mode) and found.st_rdev == number:
                return
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EEXIST, f"/dev/{device} exists in the server")
            mount_api.move_onto(tree, place)
        # The server may have renamed the file before: it could not be found to be
        # unmounted. From now on, the kernel lets nobody rename it.
        if not _is_there(dev, device, number):
            mount_api.change(tree, set=mount_api.NODEV)
            raise OSError(errno.EEXIST, f"the server has moved its /dev/{device}")


def _is_there(dev: int, device: str, number: int) -> bool:
    with contextlib.suppress(FileNotFoundError), closing(_open(dev, device)) as place:
        found = os.fstat(place)
        return stat.S_ISBLK(found.st_mode) and found.st_rdev == number
    return False


def _unmount(namespace: int, device: str, root: int) -> None:
    """Remove a device node from a server's /dev, if it has it."""
    with closing(_enter(namespace)) as dev:
        try:
            with closing(_open(dev, device)) as place:
                mounted = stat.S_ISBLK(os.fstat(place).st_mode)
        except FileNotFoundError:
            return
        if not mounted:
            return
        os.fchdir(dev)
        name = os.fsencode(device)
        child.check(child.libc.umount2(name, _UMOUNT_NOFOLLOW), f"umount {device}")
        act_as(root)
        # Whatever the server has put there instead
        with contextlib.suppress(OSError):
            os.unlink(device, dir_fd=dev)


def _enter(namespace: int) -> int:
    """Enter a server's mount namespace; return a descriptor of its /dev.

    The server can neither replace nor rename what is mounted.
    """
    child.check(child.libc.setns(namespace, child.CLONE_NEWNS), "setns")
    dev = os.open("/dev", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    if os.fstat(dev).st_dev == os.stat("/").st_dev:
        raise OSError(errno.ENODEV, "nothing is mounted on /dev in the server")
    return dev


def _open(dev: int, device: str) -> int:
    return os.open(device, os.O_PATH | os.O_NOFOLLOW, dir_fd=dev)


def act_as(uid: int) -> None:
    """Create and remove files as another user.

    In a server's own file systems, the host's root is nobody and can create nothing.
    """
    child.libc.setfsgid(uid)
    child.libc.setfsuid(uid)
