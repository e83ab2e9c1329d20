# SPDX-License-Identifier: Apache-2.0
"""A flavor's limits in the form of the Engine API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import exception
from oslo_utils import units

from nova_docker.container import quota

_PIDS = "PidsLimit"
_CPUSET = ("CpusetCpus", "CpusetMems")

# The engine's runtime needs about ten threads to start a container.
_FEWEST_PIDS = 32
# gVisor has about forty threads, and sixteen more for each process of the server. If it
# gets no more of them, it ends, and so does the server.
_FEWEST_PIDS_OF_GVISOR = 256


def pids(
    memory_mb: int,
    *,
    budget: int,
    servers_memory_mb: float,
    most: int,
    gvisor: bool = False,
) -> int:
    """Return a server's share of the processes and threads of its host.

    The share follows the memory. Placement keeps the servers' memory below
    ``servers_memory_mb``, so all shares together are within the budget. Flavors with
    very little memory get more than their share; there cannot be too many of these
    servers, because each costs the host another 12 MiB of memory for the engine's
    process.

    :param memory_mb: of the server's flavor, in MiB
    :param budget: number of processes and threads for all servers of the host
    :param servers_memory_mb: memory that the servers of the host may have, in MiB
    :param most: the largest share, 0 for no such limit
    :param gvisor: whether the server's processes are gVisor's
    """
    share = int(budget * memory_mb / servers_memory_mb)
    fewest = _FEWEST_PIDS_OF_GVISOR if gvisor else _FEWEST_PIDS
    return max(min(share, most or share), fewest)


def limits(flavor: Any, *, pids: int) -> dict[str, Any]:
    """Return a flavor's limits, except that of the root disk.

    :param flavor: ``memory_mb`` and ``swap`` are in MiB
    :param pids: maximum number of processes and threads
    :raises InvalidInput: if :func:`quota.cpu` does
    :returns: part of HostConfig, and the body of POST /containers/{id}/update
    """
    memory = flavor.memory_mb * units.Mi
    return {
        "Memory": memory,
        # The engine's value is the sum of memory and swap.
        "MemorySwap": memory + (flavor.swap or 0) * units.Mi,
        **quota.cpu(flavor),
        _PIDS: pids,
    }


def refuse_swap(flavor: Any, *, accounted: bool, host_mb: int) -> None:
    """Refuse a flavor with swap that its servers would not get.

    It is no disk, which a container could not use: the host swaps the memory out.

    :param flavor: ``swap`` is in MiB
    :param accounted: whether the kernel can limit the swap of a container
    :param host_mb: swap of the host, in MiB
    :raises InvalidInput: if so
    """
    swap = flavor.swap or 0
    if swap and not accounted:
        raise exception.InvalidInput(
            reason=f"the flavor has {swap} MiB of swap, and the host's kernel does not "
            "limit the swap of containers; use a flavor without swap, or start the "
            "kernel with swapaccount=1"
        )
    if swap > host_mb:
        raise exception.InvalidInput(
            reason=f"the flavor has {swap} MiB of swap, and the host has {host_mb} "
            "MiB; use a flavor with less swap, or give the host more"
        )


def storage(disk_gb: int) -> dict[str, Any]:
    """Return the part of HostConfig that limits the root disk.

    :param disk_gb: GiB, 0 for no limit
    """
    return {"StorageOpt": {"size": f"{disk_gb}G"}} if disk_gb else {}


def lacking(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the limits that a server of an earlier release or configuration lacks.

    Those of the number of processes and of the CPUs protect other servers. The former
    is only lowered: it may be lower because Placement has a higher allocation ratio,
    which Nova tells the driver only after it has started.

    :param found: the container's HostConfig
    :param wanted: as :meth:`nova_docker.host.host.Host.limits` returns them
    """
    names = {name for name in _CPUSET if found.get(name) != wanted.get(name)}
    if not 0 < (found.get(_PIDS) or -1) <= wanted[_PIDS]:
        names.add(_PIDS)
    return {name: wanted[name] for name in names if name in wanted}
