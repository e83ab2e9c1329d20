# SPDX-License-Identifier: Apache-2.0
"""Servers of a real cloud, whose /proc shows their own CPUs, memory and uptime."""

from __future__ import annotations

import subprocess
import time

from tests.cloud import cloud
from tests.cloud.conftest import eventually

CPUS = "grep -c ^processor /proc/cpuinfo"


def memory(server):
    """Return the size of the memory that a server sees, in MiB."""
    found = server.run("awk '/^MemTotal/ {print $2}' /proc/meminfo", check=False)
    return int(found or 0) // 1024


def uptime(server):
    return float(server.run("cat /proc/uptime").split()[0])


def test_proc_shows_what_the_flavor_gives(boot):
    server = boot()
    flavor = server.show().flavor
    assert memory(server) == flavor.ram
    assert server.run(CPUS) == f"{flavor.vcpus}\n"


def test_the_uptime_begins_with_each_start(boot):
    server = boot()
    assert eventually(lambda: uptime(server) > 5)
    began = time.monotonic()
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert uptime(server) <= time.monotonic() - began


def test_servers_that_run_get_the_files_of_a_new_lxcfs(boot):
    server = boot()
    before = memory(server)
    subprocess.run([cloud.QUICKSTART, "restart", "lxcfs"], check=True)
    assert eventually(lambda: memory(server) == before)
    assert server.run(CPUS).strip().isdigit()
