# SPDX-License-Identifier: Apache-2.0
"""The ``docker:`` extra specs of flavors that set up a container: pure decisions.

They are the operator's. An image may ask for less than its server's flavor allows, and
for nothing else. The engine applies all of them when it creates the container, except
the number of processes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from nova import exception
from oslo_utils import strutils
from oslo_utils import units

from nova_docker.container import isolation
from nova_docker.storage import mounts

_PIDS = "docker:pids"
_SHM = "docker:shm_size_mb"
_READ_ONLY = "docker:read_only"
_TMPFS = "docker:tmpfs"
_ULIMIT = "docker:ulimit_"
_SYSCTL = "docker:sysctl."

#: MiB of /dev/shm that the engine gives a container
DEFAULT_SHM_MB = 64

# Those that only concern the server's own processes. The others are left out because
# they raise the priority over other servers, or count per user of the host.
_ULIMITS = (
    "core",
    "data",
    "fsize",
    "memlock",
    "msgqueue",
    "nofile",
    "sigpending",
    "stack",
)
_MAX_ULIMIT = 2**63 - 1

# Those of the network and IPC namespaces, which are the server's own. The kernel has no
# others below net/ in a network namespace that is not the host's.
_SYSCTLS = re.compile(
    r"net(\.[a-zA-Z0-9_-]+)+"
    r"|kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)"
    r"|fs\.mqueue\.[a-z_]+"
)
_SYSCTL_VALUE = re.compile(r"[ -~]{1,128}")

_PATH = re.compile(r"(/[a-zA-Z0-9._-]+)+")
# Where the engine or the kernel has files of its own
_TAKEN = ("/dev", "/etc", "/proc", "/sys")
_MAX_TMPFS = 16


class Settings(NamedTuple):
    """What a server's container is set up with.

    :ivar read_only: whether its root file system is
    :ivar shm_mb: size of /dev/shm in MiB, 0 for the engine's default
    :ivar tmpfs: sizes of other file systems in memory in MiB, by path
    :ivar ulimits: soft and hard limits by name
    :ivar sysctls: values by name
    """

    read_only: bool = False
    shm_mb: int = 0
    tmpfs: Mapping[str, int] = {}
    ulimits: Mapping[str, tuple[int, int]] = {}
    sysctls: Mapping[str, str] = {}


def of(flavor: Any) -> Settings:
    """Return what a flavor asks for.

    :raises InvalidInput: if a value is malformed, or is not the server's own
    """
    specs = flavor.extra_specs
    return Settings(
        read_only=_boolean(_READ_ONLY, specs.get(_READ_ONLY, "false")),
        shm_mb=_memory(_SHM, specs.get(_SHM, "0"), flavor),
        tmpfs=_tmpfs(specs.get(_TMPFS, ""), flavor),
        ulimits={
            name.removeprefix(_ULIMIT): _ulimit(name, value)
            for name, value in sorted(specs.items())
            if name.startswith(_ULIMIT)
        },
        sysctls={
            name.removeprefix(_SYSCTL): _sysctl(name, value)
            for name, value in sorted(specs.items())
            if name.startswith(_SYSCTL)
        },
    )


def pids(flavor: Any, default: int) -> int:
    """Return the largest number of processes and threads of a server.

    :param default: that of flavors that say nothing, 0 for no such limit
    :raises InvalidInput: if the value is malformed
    """
    return _number(_PIDS, flavor.extra_specs.get(_PIDS, "0")) or default


def refuse(flavor: Any, level: str) -> None:
    """Refuse a flavor whose settings are malformed, or impossible for its servers.

    :param level: the server's, of :mod:`nova_docker.container.isolation`
    :raises InvalidInput: if so
    """
    pids(flavor, 0)
    if of(flavor).sysctls and level == isolation.GVISOR:
        raise _invalid(f"{_SYSCTL}* has no effect in gVisor, whose kernel has others")


def refuse_change(old: Any, new: Any) -> None:
    """Refuse a resize that would need another container.

    :raises ResizeError: if the new flavor has other settings than the old one
    """
    before, after = of(old), of(new)
    for name, was, wanted in zip(Settings._fields, before, after, strict=True):
        if was != wanted:
            raise exception.ResizeError(
                reason=f"the new flavor has another {name} (docker:{name}*), which the "
                "engine sets when it creates the container; choose a flavor with the "
                "same settings, or create another server"
            )


def lessened(
    allowed: Settings, image_id: str, read_only: str | None, shm_mb: str | None
) -> Settings:
    """Return the settings of a server whose image asks for less.

    :param allowed: those of the flavor
    :param read_only: the image's property, None if it has none
    :param shm_mb: the image's property, None if it has none
    :raises ImageUnacceptable: if a property is malformed or asks for more
    """
    try:
        root = _boolean("os_read_only", read_only or str(allowed.read_only))
        shm = _number("os_shm_size_mb", shm_mb or "0")
    except exception.InvalidInput as error:
        raise exception.ImageUnacceptable(
            image_id=image_id, reason=str(error)
        ) from error
    most = allowed.shm_mb or DEFAULT_SHM_MB
    if shm > most or (allowed.read_only and not root):
        raise exception.ImageUnacceptable(
            image_id=image_id,
            reason="its property os_read_only or os_shm_size_mb asks for more than the "
            f"flavor allows (docker:read_only={str(allowed.read_only).lower()}, "
            f"docker:shm_size_mb={most}); use another flavor or image",
        )
    return allowed._replace(read_only=root, shm_mb=shm or allowed.shm_mb)


def host_config(settings: Settings) -> dict[str, Any]:
    """Return the part of HostConfig for settings, except the mounts."""
    config: dict[str, Any] = {}
    if settings.shm_mb:
        config["ShmSize"] = settings.shm_mb * units.Mi
    if settings.ulimits:
        config["Ulimits"] = [
            {"Name": name, "Soft": soft, "Hard": hard}
            for name, (soft, hard) in settings.ulimits.items()
        ]
    if settings.sysctls:
        config["Sysctls"] = dict(settings.sysctls)
    return config


def in_memory(settings: Settings) -> list[mounts.Mount]:
    """Return the mounts of the file systems in memory."""
    return [mounts.in_memory(path, mb) for path, mb in settings.tmpfs.items()]


def _tmpfs(text: str, flavor: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for item in filter(None, text.split(",")):
        path, _, size = item.strip().rpartition(":")
        if (
            not _PATH.fullmatch(path)
            or posixpath.normpath(path) != path
            or any(mounts.is_below(path, top) for top in _TAKEN)
        ):
            raise _invalid(
                f"{_TMPFS}={text} needs items of the form /path:MiB, and none of them "
                f"in {', '.join(_TAKEN)}"
            )
        found[path] = _memory(_TMPFS, size, flavor)
        if not found[path]:
            raise _invalid(f"{_TMPFS}={text} has no size for {path}")
    if len(found) > _MAX_TMPFS:
        raise _invalid(f"{_TMPFS} has more than {_MAX_TMPFS} items")
    return found


def _ulimit(spec: str, text: str) -> tuple[int, int]:
    name = spec.removeprefix(_ULIMIT)
    if name not in _ULIMITS:
        raise _invalid(f"{spec} is none of {_ULIMIT}* with {', '.join(_ULIMITS)}")
    soft, _, hard = text.partition(":")
    first = _number(spec, soft)
    second = _number(spec, hard) if hard else first
    if first > second:
        raise _invalid(f"{spec}={text} has a soft limit above the hard one")
    return first, second


def _sysctl(spec: str, text: str) -> str:
    if not _SYSCTLS.fullmatch(spec.removeprefix(_SYSCTL)):
        raise _invalid(
            f"{spec} is not a server's own: use those of net.*, fs.mqueue.* and "
            "kernel.msg*, kernel.sem and kernel.shm*"
        )
    if not _SYSCTL_VALUE.fullmatch(text):
        raise _invalid(f"{spec} has no printable value of up to 128 characters")
    return text


def _memory(spec: str, text: str, flavor: Any) -> int:
    size = _number(spec, text)
    if size > flavor.memory_mb:
        raise _invalid(
            f"{spec} of {size} MiB is more than the memory, {flavor.memory_mb} MiB"
        )
    return size


def _number(spec: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > _MAX_ULIMIT:
        raise _invalid(f"{spec}={text} is not a whole number, or is too large")
    return int(text)


def _boolean(spec: str, text: str) -> bool:
    try:
        return bool(strutils.bool_from_string(text, strict=True))
    except ValueError as error:
        raise _invalid(f"{spec}={text} is neither true nor false") from error


def _invalid(reason: str) -> exception.InvalidInput:
    return exception.InvalidInput(reason=f"{reason}; use another flavor")
