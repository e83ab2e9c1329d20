# SPDX-License-Identifier: Apache-2.0
"""A server's resource usage, in Nova's two forms: pure functions.

CPU, memory and disk are the engine's statistics of the container. NICs are counted at
their ends on the host, because the engine does not know them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nova import objects
from nova.objects import diagnostics
from nova.virt import configdrive
from oslo_utils import timeutils
from oslo_utils import units

Stats = Mapping[str, Any]
Counters = Mapping[str, Any]


def legacy(stats: Stats, level: str, vifs: Any, counters: Counters) -> dict[str, Any]:
    """Return ComputeDriver.get_diagnostics' result, with the keys of libvirt's driver.

    :param stats: the response of GET /containers/{id}/stats
    :param level: of :mod:`nova_docker.container.isolation`
    :param vifs: the server's VIFs
    :param counters: of the host's devices, by name: ``psutil.net_io_counters(True)``
    :returns: CPU times in ns, memory in KiB, traffic and I/O in bytes; ``isolation`` is
        a word
    """
    memory = stats["memory_stats"]
    found: dict[str, Any] = {
        f"cpu{number}_time": used for number, used in enumerate(_cpu_times(stats))
    }
    found["isolation"] = level
    found["memory"] = memory["limit"] // units.Ki
    found["memory-actual"] = memory_used(stats) // units.Ki
    found["memory-rss"] = memory["usage"] // units.Ki
    for name, value in zip(("read", "write"), _disk(stats), strict=True):
        found[f"root_{name}"] = value
    for vif in vifs:
        if seen := counters.get(vif["devname"]):
            for name, value in _nic(seen).items():
                found[f"{vif['devname']}_{name}"] = value
    return found


def standard(
    stats: Stats, instance: objects.Instance, state: str, vifs: Any, counters: Counters
) -> diagnostics.Diagnostics:
    """Return the result of ComputeDriver.get_instance_diagnostics.

    ``driver`` is not set, because Nova accepts only the drivers that it knows.

    :param state: a value of ``power_state.STATE_MAP``
    """
    found = diagnostics.Diagnostics(
        state=state,
        hypervisor="docker",
        hypervisor_os="linux",
        config_drive=configdrive.required_by(instance),
        uptime=timeutils.delta_seconds(
            timeutils.normalize_time(instance.launched_at), timeutils.utcnow()
        ),
        memory_details=diagnostics.MemoryDiagnostics(
            maximum=stats["memory_stats"]["limit"] // units.Mi,
            used=memory_used(stats) // units.Mi,
        ),
    )
    for number, used in enumerate(_cpu_times(stats)):
        found.add_cpu(id=number, time=used)
    read, written = _disk(stats)
    found.add_disk(read_bytes=read, write_bytes=written)
    for vif in vifs:
        seen = counters.get(vif["devname"])
        values = _nic(seen) if seen else {}
        found.add_nic(
            mac_address=vif["address"],
            **{_FIELDS.get(name, name): value for name, value in values.items()},
        )
    return found


def memory_used(stats: Stats) -> int:
    """Return the bytes that a server uses, without reclaimable file cache.

    The Docker CLI computes it in the same way, for cgroups v1 and v2.
    """
    memory = stats["memory_stats"]
    details = memory.get("stats", {})
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    # A stopped server has no usage.
    return max(memory.get("usage", 0) - cache, 0)


# Where field names of NicDiagnostics differ from the legacy form's
_FIELDS = {"rx": "rx_octets", "tx": "tx_octets"}


def _cpu_times(stats: Stats) -> list[int]:
    """Return nanoseconds per CPU of the host; only their sum under cgroups v2."""
    usage = stats["cpu_stats"]["cpu_usage"]
    return usage.get("percpu_usage") or [usage["total_usage"]]


def _disk(stats: Stats) -> tuple[int, int]:
    """Return the bytes read and written."""
    entries = stats.get("blkio_stats", {}).get("io_service_bytes_recursive") or []
    read, written = (
        sum(entry["value"] for entry in entries if entry["op"].lower() == operation)
        for operation in ("read", "write")
    )
    return read, written


def _nic(host_end: Any) -> dict[str, int]:
    """Return a NIC's counters: it receives what its end on the host sends."""
    return {
        "rx": host_end.bytes_sent,
        "rx_packets": host_end.packets_sent,
        "rx_errors": host_end.errout,
        "rx_drop": host_end.dropout,
        "tx": host_end.bytes_recv,
        "tx_packets": host_end.packets_recv,
        "tx_errors": host_end.errin,
        "tx_drop": host_end.dropin,
    }
