# SPDX-License-Identifier: Apache-2.0
"""The host's CPUs by NUMA node, and the code of Nova that chooses among them."""

from __future__ import annotations

import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.virt import hardware

from nova_docker.container import pinning
from nova_docker.host import numa
from tests import claims
from tests import samples

CONF = nova_conf.CONF

# Two nodes, each with two cores of two threads
SIBLINGS = {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6"}
NODES = {0: "0-1,4-5", 1: "2-3,6-7", 2: ""}


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A host with eight CPUs, and a node that has memory only."""

    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    write("cpu/online", "0-7")
    for cpu in range(8):
        write(f"cpu/cpu{cpu}/topology/thread_siblings_list", SIBLINGS.get(cpu, "3,7"))
        write(f"cpu/cpu{cpu}/topology/physical_package_id", int(cpu in (2, 3, 6, 7)))
    for node, cpus in NODES.items():
        write(f"node/node{node}/cpulist", cpus)
        write(f"node/node{node}/meminfo", f"Node {node} MemTotal:   2097152 kB")
    monkeypatch.setattr(numa, "_SYSTEM", tmp_path)


@pytest.fixture
def configure():
    """Sets the options that divide the CPUs."""

    def override(dedicated=None, shared=None, reserved=0):
        CONF.set_override("cpu_dedicated_set", dedicated, "compute")
        CONF.set_override("cpu_shared_set", shared, "compute")
        CONF.set_override("reserved_host_cpus", reserved)

    yield override
    for name in ("cpu_dedicated_set", "cpu_shared_set"):
        CONF.clear_override(name, "compute")
    CONF.clear_override("reserved_host_cpus")


pytestmark = pytest.mark.usefixtures("system")


def test_all_cpus_are_shared_by_default(configure):
    configure()
    assert numa.cpu_sets() == (set(range(8)), set(), False)


def test_the_configuration_divides_the_cpus(configure):
    configure(dedicated="2-7,^6", shared="0-1")
    assert numa.cpu_sets() == ({0, 1}, {2, 3, 4, 5, 7}, True)
    # As in libvirt's driver
    configure(dedicated="2")
    assert numa.cpu_sets() == (set(), {2}, True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"dedicated": "1-2", "shared": "2-3"}, "in common: 2"),
        ({"dedicated": "7-9"}, "not online: 8-9"),
        ({"shared": "8"}, "not online: 8"),
        ({"shared": "1", "reserved": 1}, "reserved_host_cpus"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(configure, options, match):
    configure(**options)
    with pytest.raises(exception.InvalidConfiguration, match=match):
        numa.cpu_sets()


def test_nodes_have_their_cpus_memory_and_threads(configure):
    configure(dedicated="1-3,5", shared="0")
    first, second = numa.topology(numa.cpu_sets()).cells
    assert (first.id, first.socket, first.memory) == (0, 0, 2048)
    assert (first.cpuset, first.pcpuset) == ({0}, {1, 5})
    assert first.siblings == [{0}, {1, 5}]
    assert (second.id, second.socket) == (1, 1)
    assert (second.cpuset, second.pcpuset) == (set(), {2, 3})
    # A thread whose sibling no server may have
    assert second.siblings == [{2}, {3}]


def flavor(vcpus=2, **specs):
    named = {f"hw:{name}": value for name, value in specs.items()}
    return samples.flavor(
        memory_mb=64, vcpus=vcpus, extra_specs={"hw:cpu_policy": "dedicated"} | named
    )


def cpus(topology):
    return hardware.parse_cpu_spec(pinning.pinned(topology, {})["CpusetCpus"])


def test_novas_claim_gives_each_server_cpus_of_its_own_on_one_node(configure):
    configure(dedicated="0-7")
    host = numa.topology(numa.cpu_sets())
    first, host = claims.claim(host, flavor(vcpus=4))
    second, host = claims.claim(host, flavor(vcpus=4))
    assert sorted([cpus(first), cpus(second)], key=min) == [{0, 1, 4, 5}, {2, 3, 6, 7}]
    assert {pinning.pinned(each, {})["CpusetMems"] for each in (first, second)} == {
        "0",
        "1",
    }
    with pytest.raises(exception.ComputeResourcesUnavailable):
        claims.claim(host, flavor(vcpus=1))


def test_novas_policy_for_threads_is_that_of_the_server(configure):
    configure(dedicated="0-7")
    host = numa.topology(numa.cpu_sets())
    required, _ = claims.claim(host, flavor(cpu_thread_policy="require"))
    assert cpus(required) in ({0, 4}, {1, 5}, {2, 6}, {3, 7})
    # On a host with threads, Nova has no CPU that would be alone.
    with pytest.raises(exception.ComputeResourcesUnavailable):
        claims.claim(host, flavor(cpu_thread_policy="isolate"))
    one, host = claims.claim(host, flavor(vcpus=1, cpu_thread_policy="prefer"))
    two, _ = claims.claim(host, flavor(cpu_thread_policy="prefer"))
    assert not cpus(one) & cpus(two)


def test_a_host_without_dedicated_cpus_is_not_claimed(configure):
    configure(shared="0-7")
    host = numa.topology(numa.cpu_sets())
    with pytest.raises(exception.ComputeResourcesUnavailable):
        claims.claim(host, flavor())


def test_what_the_driver_reports_survives_novas_database(configure):
    configure(dedicated="4-7", shared="0-3")
    found = numa.topology(numa.cpu_sets())
    read = objects.NUMATopology.obj_from_db_obj(found._to_json())
    assert [cell.pcpuset for cell in read.cells] == [{4, 5}, {6, 7}]
