# SPDX-License-Identifier: Apache-2.0
"""A flavor's limits in the form of the Engine API."""

from __future__ import annotations

from typing import Any

from oslo_utils import units

_CPU_PERIOD = 100_000  # microseconds: the kernel's default
_SHARES_PER_VCPU = 1024
_MAX_SHARES = 262_144  # the kernel's maximum


def limits(flavor: Any, *, pids: int) -> dict[str, Any]:
    """Return a flavor's limits, except that of the root disk.

    :param flavor: ``memory_mb`` and ``swap`` are in MiB
    :param pids: maximum number of processes and threads, 0 for no limit
    :returns: part of HostConfig, and the body of POST /containers/{id}/update
    """
    memory = flavor.memory_mb * units.Mi
    return {
        "Memory": memory,
        # The engine's value is the sum of memory and swap.
        "MemorySwap": memory + (flavor.swap or 0) * units.Mi,
        "CpuShares": min(flavor.vcpus * _SHARES_PER_VCPU, _MAX_SHARES),
        "CpuPeriod": _CPU_PERIOD,
        "CpuQuota": flavor.vcpus * _CPU_PERIOD,
        "PidsLimit": pids or -1,
    }


def storage(disk_gb: int) -> dict[str, Any]:
    """Return the part of HostConfig that limits the root disk.

    :param disk_gb: GiB, 0 for no limit
    """
    return {"StorageOpt": {"size": f"{disk_gb}G"}} if disk_gb else {}
