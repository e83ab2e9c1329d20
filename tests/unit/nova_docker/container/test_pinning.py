# SPDX-License-Identifier: Apache-2.0
"""On which CPUs a server runs."""

from __future__ import annotations

import pytest
from nova import exception
from nova import objects

from nova_docker.container import pinning
from tests import samples

SHARED = {0: {0}, 1: {4, 6}}


def chosen(*cells, shared=()):
    """Return a topology as Nova has claimed it: a node and CPUs for each cell.

    :param shared: VCPUs of each cell that are not dedicated
    """
    return objects.InstanceNUMATopology(
        cells=[
            objects.InstanceNUMACell(
                id=node,
                cpuset=set(shared),
                pcpuset=set(range(len(cpus))),
                memory=64,
                cpu_pinning=dict(enumerate(cpus)),
            )
            for node, cpus in cells
        ]
    )


def flavor(policy):
    return samples.flavor(extra_specs={"hw:cpu_policy": policy})


def test_a_server_runs_on_the_cpus_and_the_node_that_nova_has_chosen():
    assert pinning.pinned(chosen((1, [5, 2, 3])), SHARED) == {
        "CpusetCpus": "2-3,5",
        "CpusetMems": "1",
    }
    assert pinning.pinned(chosen((0, [1]), (1, [2])), SHARED)["CpusetMems"] == "0-1"


def test_a_server_with_the_policy_mixed_has_the_shared_cpus_of_its_node_too():
    assert pinning.pinned(chosen((1, [5]), shared=[1]), SHARED) == {
        "CpusetCpus": "4-6",
        "CpusetMems": "1",
    }


def test_a_server_without_dedicated_cpus_is_not_pinned():
    assert pinning.pinned(None, SHARED) == {}
    assert pinning.pinned(chosen((0, [])), SHARED) == {}
    assert pinning.floating({3, 2}, {0}) == {"CpusetCpus": "2-3", "CpusetMems": "0"}


def test_a_resize_in_progress_has_what_nova_has_claimed_for_it():
    old, new = chosen((0, [1])), chosen((0, [2, 3]))
    wanted = samples.flavor(vcpus=2)
    instance = samples.instance(
        numa_topology=old,
        migration_context=objects.MigrationContext(new_numa_topology=new),
    )
    assert pinning.topology_of(instance, wanted) is new
    assert pinning.topology_of(instance, instance.flavor) is old
    instance.migration_context = None
    assert pinning.topology_of(instance, wanted) is old


@pytest.mark.parametrize("policy", ["dedicated", "mixed"])
def test_dedicated_cpus_must_have_been_chosen(policy):
    image_meta = samples.image_meta()
    pinning.refuse(flavor("shared"), image_meta, None)
    pinning.refuse(flavor(policy), image_meta, chosen((0, [1])))
    with pytest.raises(exception.InvalidInput, match="cpu_dedicated_set"):
        pinning.refuse(flavor(policy), image_meta, None)


def test_an_image_cannot_have_dedicated_cpus_that_the_flavor_does_not_have():
    asking = samples.image_meta(properties={"hw_cpu_policy": "dedicated"})
    pinning.refuse(flavor("dedicated"), asking, chosen((0, [1])))
    with pytest.raises(exception.InvalidInput, match="more than the flavor allows"):
        pinning.refuse(samples.flavor(), asking, chosen((0, [1])))
