# SPDX-License-Identifier: Apache-2.0
"""Servers with dedicated CPUs on a real engine."""

from __future__ import annotations

import os

import pytest
from nova import exception
from nova import objects

from nova_docker.driver import CONF
from nova_docker.host import numa
from tests import claims
from tests import samples

SHARED, DEDICATED = 0, 1

pytestmark = pytest.mark.skipif(
    len(os.sched_getaffinity(0)) < 2, reason="the machine has one CPU"
)


@pytest.fixture(autouse=True)
def configuration_of_cpus(configuration):
    CONF.set_override("cpu_shared_set", str(SHARED), "compute")
    CONF.set_override("cpu_dedicated_set", str(DEDICATED), "compute")
    yield
    CONF.clear_override("cpu_shared_set", "compute")
    CONF.clear_override("cpu_dedicated_set", "compute")


def flavor(policy, **values):
    return samples.flavor(extra_specs={"hw:cpu_policy": policy}, **values)


def chosen(wanted):
    """Return what Nova's code chooses on this host, as the driver reports it."""
    found, _ = claims.claim(numa.topology(numa.cpu_sets()), wanted)
    return found


def allowed(server):
    """Return the CPUs and the nodes that a server's processes may use."""
    lines = server.run("grep -E '(Cpus|Mems)_allowed_list' /proc/self/status")
    return tuple(line.split()[1] for line in lines.splitlines())


@pytest.mark.parametrize("level", ["user", "shared"])
def test_a_server_runs_on_its_own_cpu_and_others_do_not(driver, boot, level):
    wanted = flavor("dedicated")
    wanted.extra_specs["docker:isolation"] = level
    server = boot(flavor=wanted, numa_topology=chosen(wanted))
    assert allowed(server) == (str(DEDICATED), "0")
    assert allowed(boot(flavor=flavor("shared"))) == (str(SHARED), "0")
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert allowed(server) == (str(DEDICATED), "0")


def test_a_server_with_the_policy_mixed_has_both(boot):
    wanted = flavor("mixed", vcpus=2)
    wanted.extra_specs["hw:cpu_dedicated_mask"] = "0"
    server = boot(flavor=wanted, numa_topology=chosen(wanted))
    assert allowed(server) == (f"{SHARED}-{DEDICATED}", "0")


def test_a_resize_moves_a_running_server(driver, boot):
    server = boot(flavor=flavor("shared"))
    process = server.pid
    wanted = flavor("dedicated", memory_mb=128)

    def resize(new, topology):
        driver.migrate_disk_and_power_off(
            None, server.instance, CONF.my_ip, new, server.network_info
        )
        server.instance.flavor, server.instance.numa_topology = new, topology

    topology = chosen(wanted)
    server.instance.migration_context = objects.MigrationContext(
        new_numa_topology=topology
    )
    old = server.instance.flavor
    resize(wanted, topology)
    assert allowed(server) == (str(DEDICATED), "0")
    # Nova reverts it.
    server.instance.flavor, server.instance.numa_topology = old, None
    driver.finish_revert_migration(None, server.instance, server.network_info, None)
    assert allowed(server) == (str(SHARED), "0")
    assert server.pid == process


def test_servers_that_run_already_keep_to_the_shared_cpus(make_driver, boot):
    CONF.clear_override("cpu_shared_set", "compute")
    CONF.clear_override("cpu_dedicated_set", "compute")
    server = boot()
    process = server.pid
    assert allowed(server)[0] == f"{SHARED}-{DEDICATED}"
    CONF.set_override("cpu_shared_set", str(SHARED), "compute")
    CONF.set_override("cpu_dedicated_set", str(DEDICATED), "compute")
    make_driver().plug_vifs(server.instance, server.network_info)
    assert allowed(server) == (str(SHARED), "0")
    assert server.pid == process


def test_a_server_for_which_nova_has_chosen_no_cpu_is_refused(boot):
    with pytest.raises(exception.InvalidInput, match="cpu_dedicated_set"):
        boot(flavor=flavor("dedicated"))


def test_the_driver_reports_what_can_be_dedicated(driver):
    resources = driver.get_available_resource(CONF.host)
    [cell] = objects.NUMATopology.obj_from_db_obj(resources["numa_topology"]).cells
    assert (cell.cpuset, cell.pcpuset) == ({SHARED}, {DEDICATED})
    assert resources["vcpus"] == 1
    inventory = driver._host.inventory(
        {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0, "PCPU": 1.0}, 0
    )
    assert (inventory["VCPU"]["total"], inventory["PCPU"]["total"]) == (1, 1)
