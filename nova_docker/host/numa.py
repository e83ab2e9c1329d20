# SPDX-License-Identifier: Apache-2.0
"""The host's CPUs and memory by NUMA node, for the code of Nova that pins servers.

Nova chooses the CPUs and the node of a server with dedicated CPUs, by what is reported
here and by ``[compute]cpu_dedicated_set`` and ``cpu_shared_set``.
"""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.virt import hardware

CONF = nova_conf.CONF

_SYSTEM = pathlib.Path("/sys/devices/system")


class CpuSets(NamedTuple):
    """Which of the host's CPUs servers have.

    :ivar shared: those of all servers without dedicated CPUs together
    :ivar dedicated: those that one server each has
    :ivar configured: whether the configuration divides the CPUs. If not, the engine
        leaves it to the kernel where a server runs.
    """

    shared: frozenset[int]
    dedicated: frozenset[int]
    configured: bool


def cpu_sets() -> CpuSets:
    """Return how the configuration divides the CPUs, as for Nova's libvirt driver.

    :raises InvalidConfiguration: if it names CPUs twice, or some that the host does not
        have
    """
    online = _cpus("cpu/online")
    dedicated = hardware.get_cpu_dedicated_set() or set()
    shared = hardware.get_cpu_shared_set() or (set() if dedicated else online)
    if dedicated & shared:
        raise exception.InvalidConfiguration(
            "[compute]cpu_dedicated_set and cpu_shared_set have CPUs in common: "
            f"{hardware.format_cpu_spec(dedicated & shared)}"
        )
    if missing := (dedicated | shared) - online:
        raise exception.InvalidConfiguration(
            "[compute]cpu_dedicated_set or cpu_shared_set names CPUs that are not "
            f"online: {hardware.format_cpu_spec(missing)}"
        )
    configured = bool(CONF.compute.cpu_dedicated_set or CONF.compute.cpu_shared_set)
    if configured and CONF.reserved_host_cpus:
        raise exception.InvalidConfiguration(
            "reserved_host_cpus has no meaning with [compute]cpu_dedicated_set or "
            "cpu_shared_set; remove it, and name only CPUs for servers in these"
        )
    return CpuSets(frozenset(shared), frozenset(dedicated), configured)


def topology(sets: CpuSets) -> objects.NUMATopology:
    """Return the host's NUMA nodes, with nothing in use: Nova adds up what is."""
    nodes = sorted(
        int(path.name.removeprefix("node"))
        for path in (_SYSTEM / "node").glob("node[0-9]*")
    )
    # Nodes that have memory or devices only cannot have servers.
    cells = [_cell(node, sets) for node in nodes if _cpus(f"node/node{node}/cpulist")]
    return objects.NUMATopology(cells=cells)


def _cell(node: int, sets: CpuSets) -> objects.NUMACell:
    cpus = _cpus(f"node/node{node}/cpulist")
    usable = cpus & (sets.shared | sets.dedicated)
    siblings = {
        frozenset(_cpus(f"cpu/cpu{cpu}/topology/thread_siblings_list")) & usable
        for cpu in usable
    }
    sockets = {_read(f"cpu/cpu{cpu}/topology/physical_package_id") for cpu in cpus}
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read(f"node/node{node}/meminfo"))
    kib = int(memory[1]) if memory else 0
    return objects.NUMACell(
        id=node,
        socket=int(sockets.pop()) if len(sockets) == 1 else None,
        cpuset=cpus & sets.shared,
        pcpuset=cpus & sets.dedicated,
        memory=kib // 1024,
        cpu_usage=0,
        memory_usage=0,
        pinned_cpus=set(),
        siblings=sorted((set(each) for each in siblings), key=min),
        # Of the usual size: servers have no huge pages.
        mempages=[
            objects.NUMAPagesTopology(size_kb=4, total=kib // 4, used=0, reserved=0)
        ],
        network_metadata=objects.NetworkMetadata(physnets=set(), tunneled=False),
    )


def _cpus(path: str) -> set[int]:
    return set(hardware.parse_cpu_spec(_read(path)))


def _read(path: str) -> str:
    return (_SYSTEM / path).read_text().strip()
