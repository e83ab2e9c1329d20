# SPDX-License-Identifier: Apache-2.0
"""The levels of isolation that a host has."""

from __future__ import annotations

import grp
import os
import pathlib
import pwd
import subprocess
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova import conf as nova_conf
from nova import exception
from oslo_log import log as logging

from nova_docker import id_ranges
from nova_docker.container import isolation
from nova_docker.privsep import contexts
from nova_docker.privsep import userns

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# The storage driver whose files the OCI runtime can give to a server's ids
_DRIVER = "overlay2"

_RUNTIME_SECONDS = 10
# Where the engine looks for programs as well; this process's PATH may lack some of them
_ENGINE_PATH = ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SUBIDS = ("/etc/subuid", "/etc/subgid")


class Isolation:
    """What one host has. Call :meth:`connect` before anything else."""

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}

    def connect(self, info: Mapping[str, Any], runtime: Mapping[str, Any]) -> None:
        """Find out which levels the engine and the kernel have; log what is missing.

        :param info: the response of GET /info
        :param runtime: the driver's item of its ``Runtimes``
        :raises NovaException: if the configured level is missing
        """
        start, count = CONF.docker.subid_start, CONF.docker.subid_count
        self._missing.clear()
        contexts.configure()
        self._connect_gvisor(info)
        if reason := _why_not_user(info, runtime, start):
            self._missing[isolation.USER] = reason
            if CONF.docker.isolation == isolation.USER:
                raise exception.NovaException(
                    f"This host cannot give servers a user namespace: {reason}. It is "
                    "the default level of isolation. Either change the host, or set "
                    "[docker]isolation = shared, with which root in a server is root "
                    "of the host"
                )
            LOG.info("No server can have docker:isolation=user: %s", reason)
        elif taken := id_ranges.overlapping(list(_known_ids()), start, count):
            LOG.warning(
                "Others have some of the user or group ids %d to %d, which are for "
                "servers: %s. Change [docker]subid_start and subid_count",
                start,
                start + count - 1,
                ", ".join(taken),
            )

    def _connect_gvisor(self, info: Mapping[str, Any]) -> None:
        try:
            version = _gvisor(info)
        except exception.NovaException as error:
            self._missing[isolation.GVISOR] = str(error)
            if CONF.docker.isolation == isolation.GVISOR:
                raise exception.NovaException(
                    f"This host cannot run servers in gVisor: {error}. It is the "
                    "default level of isolation. Either change the host, or set "
                    "[docker]isolation to another level"
                ) from error
            LOG.info("No server can have docker:isolation=gvisor: %s", error)
        else:
            LOG.info("Servers can have docker:isolation=gvisor, with %s", version)

    def refuse(self, flavor: Any) -> None:
        """Refuse a flavor whose isolation the host does not have.

        :raises InvalidInput: as :func:`isolation.refuse` does
        """
        isolation.refuse(flavor, CONF.docker.isolation, self._missing)

    def why_not(self, level: str, flavor: Any) -> str | None:
        """Return why a server that exists elsewhere cannot come here, or None.

        :param level: the server's, as the other host says
        :param flavor: the server's, as Nova says
        """
        if isolation.is_weaker(level, flavor, CONF.docker.isolation):
            return (
                f"the server has docker:isolation={level}, which is less than its "
                "flavor or this host's [docker]isolation requests; rebuild it first"
            )
        if reason := self._missing.get(level):
            return f"the host cannot run docker:isolation={level}: {reason}"
        return None

    def traits(self) -> dict[str, bool]:
        """Return a trait for each level, with whether the host has it."""
        return isolation.traits(self._missing)


def unsuitable(info: Mapping[str, Any]) -> str | None:
    """Return why an engine cannot run servers with user namespaces, or None.

    :param info: the response of GET /info
    """
    driver = info.get("Driver")
    if driver != _DRIVER:
        return f"the Docker engine's storage driver is {driver} and not {_DRIVER}"
    options = info.get("SecurityOptions") or ()
    for name, words in (("userns", "userns-remap is set"), ("rootless", "is rootless")):
        if any(option.split(",")[0] == f"name={name}" for option in options):
            return f"the Docker engine has namespaces of its own ({words})"
    return None


def _why_not_user(
    info: Mapping[str, Any], runtime: Mapping[str, Any], start: int
) -> str | None:
    if reason := unsuitable(info) or _unsuitable_runtime(str(runtime.get("path"))):
        return reason
    if os.getuid() >= id_ranges.SIZE:
        return (
            f"nova-compute's user id is {os.getuid()}, so that servers could not read "
            f"their config drives; use a user with an id below {id_ranges.SIZE}"
        )
    try:
        userns.probe(str(info["DockerRootDir"]), start)
    # The privileged daemon may not start, too.
    except Exception as error:
        LOG.debug("Failed to create a user namespace", exc_info=True)
        return (
            "the kernel (Linux 5.19 is needed), the file system of "
            f"{info['DockerRootDir']} or the privileges of nova-compute do not allow "
            f"it: {error}"
        )
    return None


def _unsuitable_runtime(path: str) -> str | None:
    """Return why an OCI runtime does not know user namespaces, or None."""
    try:
        found = _levels_of(path)
    except exception.NovaException as error:
        return str(error)
    if isolation.USER not in found.stdout.split():
        return (
            f"the OCI runtime {path} is of an earlier release, and would ignore the "
            "namespace; install the one of this release"
        )
    return None


def _gvisor(info: Mapping[str, Any]) -> str:
    """Return the version of gVisor, as it describes itself.

    :param info: the response of GET /info
    :raises NovaException: if no server can run in it, with the reason
    """
    name = CONF.docker.gvisor_runtime
    if CONF.docker.network_mode == "bridge":
        raise exception.NovaException(
            "gVisor cannot have the default route of Docker's bridge beside Neutron's "
            "([docker]network_mode = bridge)"
        )
    runtime = info.get("Runtimes", {}).get(name)
    if runtime is None:
        raise exception.NovaException(
            f"the Docker engine has no OCI runtime {name!r}; register "
            "nova-docker-gvisor under this name in its daemon.json"
        )
    path = str(runtime.get("path"))
    found = _levels_of(path)
    level, _, version = found.stdout.strip().partition(" ")
    if level != isolation.GVISOR:
        reason = found.stderr.strip() or "it is not nova-docker-gvisor"
        raise exception.NovaException(f"the OCI runtime {path}: {reason}")
    return version


def _levels_of(path: str) -> subprocess.CompletedProcess[str]:
    """Ask an OCI runtime which levels of isolation it knows.

    :raises NovaException: if it does not run
    """
    try:
        return subprocess.run(
            [path, "isolation"],
            capture_output=True,
            text=True,
            timeout=_RUNTIME_SECONDS,
            check=False,
            env=os.environ | {"PATH": os.environ.get("PATH", "") + _ENGINE_PATH},
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise exception.NovaException(
            f"the OCI runtime {path} does not run: {error}"
        ) from error


def _known_ids() -> Iterator[tuple[str, int, int]]:
    """Yield name, first id and number of ids of the host's users and groups."""
    for user in pwd.getpwall():
        yield f"user {user.pw_name}", user.pw_uid, 1
    for group in grp.getgrall():
        yield f"group {group.gr_name}", group.gr_gid, 1
    for path in _SUBIDS:
        if pathlib.Path(path).exists():
            for line in pathlib.Path(path).read_text().splitlines():
                name, *numbers = line.split(":")
                if len(numbers) == 2 and all(word.isdigit() for word in numbers):
                    yield f"{path} of {name}", int(numbers[0]), int(numbers[1])
