# SPDX-License-Identifier: Apache-2.0
"""Servers whose /proc shows their own CPUs, memory and uptime, on a real engine."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import time

import pytest
from nova import objects

from nova_docker.container import isolation
from tests import samples
from tests.functional.host import CONF

HOST = pathlib.Path("/proc/meminfo").read_text().split()[1]
FILES = {
    *(f"/proc/{name}" for name in ("cpuinfo", "diskstats", "loadavg", "meminfo")),
    *(f"/proc/{name}" for name in ("stat", "swaps", "uptime")),
    "/sys/devices/system/cpu/online",
}
LEVELS = (isolation.USER, isolation.SHARED)


@pytest.fixture(autouse=True)
def short_shutdown():
    """The shell of the image ignores the signal to stop."""
    CONF.set_override("shutdown_timeout", 1)
    yield
    CONF.clear_override("shutdown_timeout")


def flavor(level=isolation.USER, **values):
    return samples.flavor(extra_specs={"docker:isolation": level}, **values)


def memory(server):
    """Return the size of the memory that a server sees, in KiB."""
    return server.run("awk '/^MemTotal/ {print $2}' /proc/meminfo").strip()


def uptime(server):
    return float(server.run("cat /proc/uptime").split()[0])


def mounts(server):
    """Return the options of the mounts of lxcfs in a server, by their points."""
    lines = server.run("cat /proc/self/mounts").splitlines()
    found = [line.split() for line in lines if line.startswith("lxcfs ")]
    assert len({point for _, point, *_ in found}) == len(found)
    return {point: options.split(",") for _, point, _, options, *_ in found}


def is_dead(server):
    try:
        server.run("cat /proc/meminfo")
    except subprocess.CalledProcessError:
        return True
    return False


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("vcpus", [1, 2])
def test_proc_shows_what_the_flavor_gives(lxcfs, boot, host_with_swap, level, vcpus):
    server = boot(flavor=flavor(level, memory_mb=128, vcpus=vcpus, swap=64))
    assert memory(server) == str(128 * 1024)
    # The host may have less.
    assert int(server.run("awk '/^SwapTotal/ {print $2}' /proc/meminfo")) <= 64 * 1024
    assert server.run("grep -c ^processor /proc/cpuinfo") == f"{vcpus}\n"
    assert server.run("grep -c '^cpu[0-9]' /proc/stat") == f"{vcpus}\n"
    online = "0" if vcpus == 1 else "0-1"
    assert server.run("cat /sys/devices/system/cpu/online") == f"{online}\n"
    assert uptime(server) < 30
    assert len(server.run("cat /proc/loadavg").split()) == 5
    assert server.run("cat /proc/swaps").startswith("Filename")
    assert server.run("cat /proc/diskstats") is not None


@pytest.mark.parametrize("level", LEVELS)
def test_the_files_are_read_only_mounts(lxcfs, boot, level):
    found = mounts(boot(flavor=flavor(level)))
    assert set(found) == FILES
    for options in found.values():
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(options)


def test_a_resize_shows_at_once(driver, lxcfs, boot):
    server = boot(flavor=flavor(memory_mb=64))
    driver.migrate_disk_and_power_off(
        None,
        server.instance,
        driver.get_host_ip_addr(),
        flavor(memory_mb=128, vcpus=2),
        server.network_info,
    )
    assert memory(server) == str(128 * 1024)
    assert server.run("grep -c ^processor /proc/cpuinfo") == "2\n"


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
def test_the_uptime_begins_with_each_start(driver, lxcfs, boot, kind):
    server = boot(flavor=flavor())
    time.sleep(3)
    before = uptime(server)
    assert before >= 3
    driver.reboot(None, server.instance, server.network_info, kind)
    assert uptime(server) < before
    assert set(mounts(server)) == FILES


def test_a_rescue_container_has_them(driver, lxcfs, boot, image):
    server = boot(flavor=flavor())
    driver.power_off(server.instance)
    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        image(),
        "password",
        {},
        objects.ShareMappingList(),
    )
    assert memory(server) == str(64 * 1024)
    assert set(mounts(server)) == FILES


def test_systemd_runs_with_them(lxcfs, boot_systemd):
    server = boot_systemd()
    assert memory(server) == str(512 * 1024)
    assert set(mounts(server)) == FILES
    assert server.run("nproc").strip().isdigit()


def test_without_the_option_servers_see_the_host(lxcfs, configure, boot):
    configure("lxcfs", "")
    server = boot(flavor=flavor())
    assert memory(server) == HOST
    assert not mounts(server)


def test_gvisor_has_its_own_files(lxcfs, boot):
    server = boot(flavor=flavor(isolation.GVISOR))
    assert "lxcfs" not in server.run("cat /proc/mounts")
    assert memory(server) != HOST


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("state", ["killed", "unmounted", "stopped"])
def test_a_server_starts_without_lxcfs(driver, lxcfs, boot, caplog, level, state):
    server = boot(flavor=flavor(level))
    if state == "stopped":
        os.kill(lxcfs.process.pid, signal.SIGSTOP)
    else:
        lxcfs.kill()
    if state == "unmounted":
        lxcfs.unmount()
    began = time.monotonic()
    driver.reboot(None, server.instance, server.network_info, "HARD")
    new = boot(flavor=flavor(level))
    assert time.monotonic() - began < 15
    assert memory(server) == memory(new) == HOST
    assert not mounts(server)
    for _ in range(2):
        driver.get_available_resource("node")
    assert caplog.text.count("does not answer") == 1


@pytest.mark.parametrize("level", LEVELS)
def test_servers_that_run_get_the_files_of_a_new_lxcfs(driver, lxcfs, boot, level):
    server, paused = boot(flavor=flavor(level)), boot(flavor=flavor(level))
    driver.get_available_resource("node")
    driver.pause(paused.instance)
    before = mounts(server)
    lxcfs.kill()
    assert is_dead(server)
    driver.get_available_resource("node")
    assert is_dead(server)

    lxcfs.restart()
    driver.get_available_resource("node")
    driver.unpause(paused.instance)
    for each in server, paused:
        assert memory(each) == str(64 * 1024)
        assert uptime(each) < 60
        assert mounts(each) == before
    # Nothing is left to do.
    driver.get_available_resource("node")
    assert mounts(server) == before


def test_servers_get_the_files_of_a_new_lxcfs_when_nova_compute_starts(
    make_driver, lxcfs, boot
):
    server = boot(flavor=flavor())
    lxcfs.restart()
    assert is_dead(server)
    make_driver()
    assert memory(server) == str(64 * 1024)
