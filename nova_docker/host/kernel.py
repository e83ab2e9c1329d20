# SPDX-License-Identifier: Apache-2.0
"""Limits of the kernel that all servers of a host share with it and with each other.

Servers share the kernel, and root in one is the same user as root in the others. Some
of the kernel's limits are for the whole host or for a user, and their defaults are so
low that one server can use them up:

* What the kernel charges to a server's memory needs no limit of its own: the server
  reaches its flavor's memory first. These limits are therefore set as high as the
  kernel allows.
* Pseudo-terminals are limited per server by the OCI runtime, to :data:`PTYS`.
* Processes are limited per server by its flavor: :mod:`nova_docker.container.limits`.
* Entries of the neighbour tables (ARP, NDP) belong to no server; the limit leaves room
  for the neighbours that the servers need.

``etc/sysctl.d/60-nova-docker.conf`` has the same values.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

_SYSCTLS = pathlib.Path("/proc/sys")

#: The number of servers on a host for which the values are sufficient
SERVERS = 1024
#: Pseudo-terminals per server; the OCI runtime mounts its /dev/pts with this limit
PTYS = 256
# The kernel keeps this many for the host (kernel.pty.reserve).
_HOST_PTYS = 1024
# IPv4 or IPv6 neighbours per server; half a KiB each, charged to nobody. One process
# that scans a network adds some 30,000 in a second, which stay for three seconds.
_NEIGHBOURS = 256
_INT_MAX = 2**31 - 1
_LONG_MAX = 2**63 - 1
_NO_LIMIT = 0

#: The value that each sysctl should at least have
WANTED: dict[str, int] = {
    # Processes: with more than 32 CPUs or with systemd, the default is as high. The
    # limit is then kernel.threads-max, which the kernel derives from the memory.
    "kernel.pid_max": 2**22,
    "kernel.pty.max": SERVERS * PTYS + _HOST_PTYS,
    # 214 bytes each, charged to the server's memory; systemd sets the same
    "fs.file-max": _LONG_MAX,
    # Pages of pipes of one user, after which new pipes only get two; charged
    "fs.pipe-user-pages-soft": _NO_LIMIT,
    # 68 bytes for each event, charged
    "fs.aio-max-nr": _INT_MAX,
    # 200 bytes each, charged
    "fs.epoll.max_user_watches": _INT_MAX,
    # 950 bytes each, charged
    "fs.inotify.max_user_instances": _INT_MAX,
    # 90 bytes each, charged
    "fs.inotify.max_user_watches": _INT_MAX,
    **{
        f"net.{family}.neigh.default.gc_thresh{number}": SERVERS * _NEIGHBOURS // part
        for family in ("ipv4", "ipv6")
        # Below the first, entries stay; at the second, they are removed after 5 s;
        # the third is the limit.
        for number, part in ((1, 8), (2, 2), (3, 1))
    },
}


def processes_of_servers(root: pathlib.Path = _SYSCTLS) -> int:
    """Return how many processes and threads the servers of the host may have together.

    It is half of what the kernel allows. The rest is for the host: its services, about
    twelve threads of the engine for each server, and each user of the host, whose
    default limit (RLIMIT_NPROC) is half of the kernel's and counts the processes of
    servers that have the same user ID.
    """
    pid_max, threads_max = (
        int((root / "kernel" / name).read_text()) for name in ("pid_max", "threads-max")
    )
    return min(pid_max, threads_max) // 2


def read(root: pathlib.Path = _SYSCTLS) -> dict[str, int]:
    """Return the values of the sysctls in :data:`WANTED` that the kernel has."""
    found = {}
    for name in WANTED:
        path = root / name.replace(".", "/")
        if path.exists():
            found[name] = int(path.read_text())
    return found


def too_low(values: Mapping[str, int]) -> dict[str, int]:
    """Return those of a kernel's sysctls that are lower than they should be.

    :param values: as :func:`read` returns them
    """
    return {
        name: value for name, value in values.items() if _below(value, WANTED[name])
    }


def _below(value: int, wanted: int) -> bool:
    if wanted == _NO_LIMIT:
        return value != _NO_LIMIT
    return value < wanted


def describe(values: Mapping[str, int]) -> str:
    """Return a line that lists sysctls, each with its value and the wanted one."""
    return ", ".join(
        f"{name} = {value} (should be {WANTED[name]})" for name, value in values.items()
    )
