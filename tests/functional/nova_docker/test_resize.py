# SPDX-License-Identifier: Apache-2.0
"""Resizing servers in place on a real engine."""

from __future__ import annotations

import pytest
from nova import exception
from nova.compute import power_state
from oslo_utils import units

from docker_engine import errors
from nova_docker.driver import CONF
from tests import samples

SMALL = samples.flavor(memory_mb=32)
LARGE = samples.flavor(name="large", memory_mb=256, swap=64, vcpus=2)

pytestmark = pytest.mark.usefixtures("host_with_swap")


def resize(driver, server, flavor, **values):
    """Make Nova's calls of a resize, until the user confirms or reverts it."""
    arguments = {"dest": CONF.my_ip, "network_info": server.network_info} | values
    driver.migrate_disk_and_power_off(None, server.instance, flavor=flavor, **arguments)
    server.instance.old_flavor = server.instance.flavor
    server.instance.flavor = flavor
    finish(driver, server)


def finish(driver, server, power_on=True):
    driver.finish_migration(
        None,
        samples.migration(),
        server.instance,
        "",
        server.network_info,
        samples.image_meta(),
        False,
        {},
        power_on=power_on,
    )


def revert(driver, server, power_on=True):
    # Nova first finds out whether to keep the disk, then calls the rest.
    data = driver.check_instance_shared_storage_local(None, server.instance)
    shared = driver.check_instance_shared_storage_remote(None, data)
    driver.destroy(None, server.instance, server.network_info, destroy_disks=not shared)
    server.instance.flavor = server.instance.old_flavor
    driver.finish_revert_migration(
        None, server.instance, server.network_info, None, power_on=power_on
    )


def limits(server):
    """Return memory and memory with swap in MiB, and CPUs; check the kernel's limit."""
    host_config = server.inspect()["HostConfig"]
    found = (
        host_config["Memory"] // units.Mi,
        host_config["MemorySwap"] // units.Mi,
        host_config["CpuQuota"] // host_config["CpuPeriod"],
    )
    if server.inspect()["State"]["Running"]:
        v1 = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes"
        v2 = "cat /sys/fs/cgroup/memory.max"
        kernel = int(server.run(f"{v1} 2>/dev/null || {v2}"))
        assert kernel // units.Mi == found[0]
    return found


def test_a_server_of_an_earlier_release_gets_its_limit_of_processes(
    driver, make_driver, boot
):
    server = boot(flavor=samples.flavor(memory_mb=32))
    before = server.inspect()
    wanted = before["HostConfig"]["PidsLimit"]
    server.engine.client.update_container(server.name, {"PidsLimit": wanted + 1000})
    make_driver().plug_vifs(server.instance, server.network_info)
    after = server.inspect()
    assert after["HostConfig"] == before["HostConfig"]
    assert after["State"] == before["State"]
    assert limits(server)[0] == 32
    kernel = (
        "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
    )
    assert int(server.run(kernel)) == wanted


def use_memory(server, mib):
    """Make the server use memory, with a file in a tmpfs."""
    server.run(f"dd if=/dev/zero of=/dev/shm/kept bs=1M count={mib}")


def process(server):
    state = server.inspect()["State"]
    return state["Pid"], state["StartedAt"]


def test_limits_change_while_the_process_keeps_running(driver, boot):
    server = boot(flavor=SMALL)
    before = process(server)
    assert limits(server) == (32, 32, 1)

    resize(driver, server, LARGE)
    assert limits(server) == (256, 320, 2)
    migration = samples.migration()
    driver.confirm_migration(None, migration, server.instance, server.network_info)

    resize(driver, server, SMALL)
    assert limits(server) == (32, 32, 1)
    revert(driver, server)
    assert limits(server) == (256, 320, 2)

    assert process(server) == before
    assert "192.0.2.10/24" in server.run("ip -o addr show dev eth0")


@pytest.mark.parametrize("reboot_type", ["SOFT", "HARD"])
def test_a_reboot_keeps_the_new_limits(driver, boot, monkeypatch, reboot_type):
    monkeypatch.setattr(type(CONF), "shutdown_timeout", 1, raising=False)
    server = boot(flavor=SMALL)
    resize(driver, server, LARGE)
    driver.reboot(None, server.instance, server.network_info, reboot_type)
    assert limits(server) == (256, 320, 2)


def test_a_stopped_server_stays_stopped(driver, boot):
    server = boot(flavor=SMALL)
    driver.power_off(server.instance)
    driver.migrate_disk_and_power_off(
        None, server.instance, CONF.my_ip, LARGE, server.network_info
    )
    server.instance.old_flavor, server.instance.flavor = SMALL, LARGE
    finish(driver, server, power_on=False)
    assert limits(server) == (256, 320, 2)
    revert(driver, server, power_on=False)
    assert limits(server) == (32, 32, 1)
    assert driver.get_info(server.instance).state == power_state.SHUTDOWN
    driver.power_on(None, server.instance, server.network_info)
    assert limits(server) == (32, 32, 1)


def test_memory_cannot_shrink_below_its_use(driver, boot):
    server = boot(flavor=LARGE)
    use_memory(server, 60)
    before = process(server)
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        resize(driver, server, SMALL)
    reason = refused.value.inner_exception
    assert isinstance(reason, exception.ResizeError)
    assert "uses 6" in str(reason) and "has 32" in str(reason)
    assert limits(server) == (256, 320, 2)
    assert process(server) == before


def test_a_refused_revert_has_no_effect_and_a_hard_reboot_completes_it(driver, boot):
    server = boot(flavor=SMALL)
    resize(driver, server, LARGE)
    use_memory(server, 60)
    before = process(server)
    with pytest.raises(exception.ResizeError, match="has 32"):
        revert(driver, server)
    assert process(server) == before
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert limits(server) == (32, 32, 1)


@pytest.mark.parametrize(
    ("flavor", "arguments", "error"),
    [
        (samples.flavor(root_gb=0), {}, exception.ResizeError),
        (samples.flavor(ephemeral_gb=1), {}, exception.ResizeError),
        (
            samples.flavor(extra_specs={"hw:cpu_policy": "dedicated"}),
            {},
            exception.InvalidInput,
        ),
    ],
)
def test_an_unsupported_resize_leaves_the_server_as_it_was(
    driver, boot, flavor, arguments, error
):
    server = boot(flavor=SMALL)
    before = process(server)
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        resize(driver, server, flavor, **arguments)
    assert isinstance(refused.value.inner_exception, error)
    assert limits(server) == (32, 32, 1)
    assert process(server) == before


def test_a_timeout_of_the_engine_restores_the_old_limits(driver, boot, monkeypatch):
    server = boot(flavor=SMALL)
    client = driver._client
    update = client.update_container

    def update_and_time_out(*arguments):
        monkeypatch.undo()
        update(*arguments)
        raise errors.Timeout("no answer in time")

    monkeypatch.setattr(client, "update_container", update_and_time_out)
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        resize(driver, server, LARGE)
    assert "no answer in time" in str(refused.value.inner_exception)
    assert limits(server) == (32, 32, 1)


def test_an_interrupted_resize_is_reverted_at_the_next_start(make_driver, driver, boot):
    """Nova finds the server in RESIZE_MIGRATING, with its old flavor."""
    server = boot(flavor=SMALL)
    before = process(server)
    driver.migrate_disk_and_power_off(
        None, server.instance, CONF.my_ip, LARGE, server.network_info
    )
    restarted = make_driver()
    restarted.finish_revert_migration(None, server.instance, server.network_info, None)
    assert limits(server) == (32, 32, 1)
    assert process(server) == before
