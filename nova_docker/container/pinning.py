# SPDX-License-Identifier: Apache-2.0
"""On which of the host's CPUs a server runs: pure decisions.

Nova has chosen the CPUs of a server with dedicated ones, and the NUMA node, when it has
claimed the host's resources for it.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping
from typing import Any

from nova import exception
from nova import objects
from nova.objects.fields import CPUAllocationPolicy
from nova.virt import hardware

_POLICY = "hw:cpu_policy"
_DEDICATED = (CPUAllocationPolicy.DEDICATED, CPUAllocationPolicy.MIXED)


def topology_of(
    instance: objects.Instance, flavor: objects.Flavor
) -> objects.InstanceNUMATopology | None:
    """Return what Nova has chosen for a server with a flavor.

    :param flavor: the server's, or the one that a resize in progress gives it
    """
    if flavor is instance.flavor or instance.migration_context is None:
        return instance.numa_topology
    return instance.migration_context.new_numa_topology


def pinned(
    topology: objects.InstanceNUMATopology | None,
    shared: Mapping[int, Collection[int]],
) -> dict[str, str]:
    """Return the CPUs and nodes of a server with dedicated CPUs, as part of HostConfig.

    One with the policy ``mixed`` also has the shared CPUs of its nodes.

    :param shared: the host's shared CPUs, by node
    :returns: empty if it has no dedicated CPUs
    """
    if topology is None or not (cpus := _dedicated(topology)):
        return {}
    mixed = {cpu for cell in topology.cells if cell.cpuset for cpu in shared[cell.id]}
    return _cpuset(cpus | mixed, {cell.id for cell in topology.cells})


def floating(cpus: Collection[int], nodes: Collection[int]) -> dict[str, str]:
    """Return the CPUs and nodes of all other servers, as part of HostConfig.

    The engine takes an empty value for none at all: a server that had dedicated CPUs
    would keep them after a resize.
    """
    return _cpuset(cpus, nodes)


def refuse(
    flavor: Any,
    image_meta: objects.ImageMeta,
    topology: objects.InstanceNUMATopology | None,
) -> None:
    """Refuse dedicated CPUs that Nova has not chosen, or that the flavor does not have.

    With virtual machines, Nova lets an image have them if the flavor says nothing.

    :param topology: as :func:`topology_of` returns it
    :raises InvalidInput: if so
    """
    policy = hardware.get_cpu_policy_constraint(flavor, image_meta)
    if policy not in _DEDICATED:
        return
    if flavor.extra_specs.get(_POLICY) != policy:
        raise exception.InvalidInput(
            reason=f"the image's hw_cpu_policy={policy} is more than the flavor "
            f"allows; use a flavor with {_POLICY}={policy}, or another image"
        )
    if topology is None or not _dedicated(topology):
        raise exception.InvalidInput(
            reason=f"{_POLICY}={policy} needs a host with "
            "[compute]cpu_dedicated_set, and Nova has chosen none of its CPUs"
        )


def _dedicated(topology: objects.InstanceNUMATopology) -> set[int]:
    return {cpu for cell in topology.cells for cpu in (cell.cpu_pinning or {}).values()}


def _cpuset(cpus: Collection[int], nodes: Collection[int]) -> dict[str, str]:
    return {
        "CpusetCpus": hardware.format_cpu_spec(set(cpus)),
        "CpusetMems": hardware.format_cpu_spec(set(nodes)),
    }
