# SPDX-License-Identifier: Apache-2.0
"""Resource usage that is read from the kernel."""

from __future__ import annotations

import os

import psutil
import pytest

from nova_docker import diagnostics
from nova_docker.host import cgroup

MIB = 2**20


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroup, "ROOT", tmp_path / "cgroup")
    monkeypatch.setattr(cgroup, "PROC", tmp_path / "proc")

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return write


def test_cgroup_v1(write):
    write(
        "proc/7/cgroup",
        "9:name=systemd:/d/7\n4:memory:/d/7\n2:cpu,cpuacct:/d/7\n0::/\n",
    )
    write("cgroup/memory/d/7/memory.limit_in_bytes", f"{64 * MIB}\n")
    write("cgroup/memory/d/7/memory.usage_in_bytes", f"{40 * MIB}\n")
    write("cgroup/memory/d/7/memory.stat", f"cache 1\ntotal_inactive_file {8 * MIB}\n")
    write("cgroup/cpuacct/d/7/cpuacct.usage_percpu", "10 20 \n")
    found = cgroup.stats(7)
    assert diagnostics.memory_used(found) == 32 * MIB
    assert found["memory_stats"]["limit"] == 64 * MIB
    assert found["cpu_stats"]["cpu_usage"] == {
        "total_usage": 30,
        "percpu_usage": [10, 20],
    }


@pytest.mark.parametrize("own", ["", "/init.scope"])
@pytest.mark.parametrize("limit", [str(64 * MIB), "max"])
def test_cgroup_v2(write, limit, own):
    write("proc/7/cgroup", f"0::/system.slice/docker-7.scope{own}\n")
    group = "cgroup/system.slice/docker-7.scope"
    write(f"{group}/memory.max", f"{limit}\n")
    write(f"{group}/memory.current", f"{40 * MIB}\n")
    write(f"{group}/memory.stat", f"anon 1\ninactive_file {8 * MIB}\n")
    write(f"{group}/cpu.stat", "usage_usec 30\nuser_usec 10\n")
    found = cgroup.stats(7)
    assert diagnostics.memory_used(found) == 32 * MIB
    expected = psutil.virtual_memory().total if limit == "max" else int(limit)
    assert found["memory_stats"]["limit"] == expected
    assert found["cpu_stats"]["cpu_usage"] == {"total_usage": 30_000}


def test_this_process_has_control_groups():
    assert cgroup.stats(os.getpid())["memory_stats"]["usage"] > 0


def test_a_process_that_has_ended_has_none(write):
    with pytest.raises(OSError, match="No such file"):
        cgroup.stats(0)


@pytest.mark.parametrize(
    ("file", "driver", "reason"),
    [
        ("cgroup.controllers", "systemd", None),
        ("cgroup.controllers", "cgroupfs", None),
        ("unified/cgroup.controllers", "cgroupfs", None),
        ("unified/cgroup.controllers", "systemd", "native.cgroupdriver"),
        ("memory/tasks", "cgroupfs", "v1 without the v2 hierarchy"),
    ],
)
def test_a_host_without_control_groups_to_divide_says_what_it_needs(
    write, file, driver, reason
):
    write(f"cgroup/{file}", "")
    found = cgroup.why_not_delegated({"CgroupDriver": driver})
    assert found is None if reason is None else reason in found


@pytest.mark.parametrize(
    ("file", "driver", "reason"),
    [
        ("devices/devices.list", "cgroupfs", None),
        ("devices/devices.list", "systemd", "native.cgroupdriver=cgroupfs"),
        ("cgroup.controllers", "systemd", "the host has cgroup v2"),
        ("cgroup.controllers", "cgroupfs", "the host has cgroup v2"),
    ],
)
def test_only_v1_allows_devices_to_a_server_that_runs(write, file, driver, reason):
    write(f"cgroup/{file}", "")
    found = cgroup.why_no_hot_devices({"CgroupDriver": driver})
    assert found is None if reason is None else reason in found
