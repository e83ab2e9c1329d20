# SPDX-License-Identifier: Apache-2.0
"""Nova's own choice of a host's CPUs for a server."""

from __future__ import annotations

from unittest import mock

from nova import objects
from nova.compute import claims
from nova.pci import stats as pci_stats
from nova.virt import hardware

from tests import samples


def claim(
    host: objects.NUMATopology, wanted: objects.Flavor
) -> tuple[objects.InstanceNUMATopology, objects.NUMATopology]:
    """Let Nova's own code claim the host's CPUs for a server with a flavor.

    :param host: the topology with what other servers use
    :returns: what Nova chooses, and the topology with that in use
    """
    requested = hardware.numa_get_constraints(wanted, samples.image_meta())
    instance = samples.instance(flavor=wanted)
    node = objects.ComputeNode(
        numa_topology=host._to_json(),
        memory_mb=4096,
        memory_mb_used=0,
        local_gb=10,
        local_gb_used=0,
        vcpus=8,
        vcpus_used=0,
        cpu_allocation_ratio=1.0,
        ram_allocation_ratio=1.0,
        disk_allocation_ratio=1.0,
    )
    instance.numa_topology = requested
    tracker = mock.Mock()
    tracker.pci_tracker.stats = pci_stats.PciDeviceStats(host)
    made = claims.Claim(
        samples.request_context(),
        instance,
        "host",
        tracker,
        node,
        objects.InstancePCIRequests(requests=[]),
        limits={},
    )
    chosen = made.claimed_numa_topology
    return chosen, hardware.numa_usage_from_instance_numa(host, chosen)
