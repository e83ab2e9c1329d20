# SPDX-License-Identifier: Apache-2.0
"""The kernel's control groups: whether servers may divide theirs, and what they count.

A server's resource usage is returned in the form of the engine's stats. An engine
before Docker 26 that restarts while servers keep running (``live-restore``) knows no
network of theirs, and then answers with empty statistics.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

import psutil

ROOT = pathlib.Path("/sys/fs/cgroup")
PROC = pathlib.Path("/proc")


def why_not_delegated(info: Mapping[str, Any]) -> str | None:
    """Return why no server can get a control group that it may divide, or None.

    :param info: the response of GET /info
    """
    if (ROOT / "cgroup.controllers").exists():
        return None
    if not (ROOT / "unified/cgroup.controllers").exists():
        return (
            f"it has cgroup v1 without the v2 hierarchy; mount that on {ROOT}/unified, "
            "or boot the host with cgroup v2"
        )
    if info.get("CgroupDriver") != "cgroupfs":
        return (
            "with cgroup v1, the engine's option native.cgroupdriver must be cgroupfs"
        )
    return None


def why_no_hot_devices(info: Mapping[str, Any]) -> str | None:
    """Return why no server that runs can get or lose a block device, or None.

    :param info: the response of GET /info
    """
    if (ROOT / "cgroup.controllers").exists():
        return (
            "the host has cgroup v2, with which the devices of a server can only "
            "change while it is stopped"
        )
    if info.get("CgroupDriver") != "cgroupfs":
        return (
            "systemd manages the control groups of servers and would revert the change;"
            " set the engine's option native.cgroupdriver=cgroupfs"
        )
    return None


def limits_io() -> bool:
    """Return whether the kernel limits the I/O of control groups by block device."""
    v2 = ROOT / "cgroup.controllers"
    if v2.exists():
        return "io" in v2.read_text().split()
    return (ROOT / "blkio/blkio.throttle.read_bps_device").exists()


def stats(pid: int) -> dict[str, Any]:
    """Return a process's control group's usage: the sections for memory and CPU.

    Engine endpoint of which this is a part: "GET /containers/{id}/stats". Bytes and
    nanoseconds, as there.

    :param pid: the first process of the server
    :raises OSError: when it has ended
    """
    groups = _groups((PROC / str(pid) / "cgroup").read_text())
    if "memory" in groups:
        memory = ROOT / "memory" / groups["memory"]
        cpu = ROOT / "cpuacct" / groups["cpuacct"]
        percpu = [int(each) for each in _read(cpu / "cpuacct.usage_percpu").split()]
        used = {"total_usage": sum(percpu), "percpu_usage": percpu}
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    else:
        memory = cpu = ROOT / groups[""]
        used = {"total_usage": 1000 * _pairs(cpu / "cpu.stat")["usage_usec"]}
        names = ("memory.max", "memory.current")
    limit, usage = (_read(memory / name) for name in names)
    return {
        "memory_stats": {
            "limit": psutil.virtual_memory().total if limit == "max" else int(limit),
            "usage": int(usage),
            "stats": _pairs(memory / "memory.stat"),
        },
        "cpu_stats": {"cpu_usage": used},
    }


def _groups(text: str) -> dict[str, str]:
    """Return the paths of a process's control groups, by controller; v2's is ""."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            # systemd moves itself to a group of its own.
            found[controller] = path.lstrip("/").removesuffix("/init.scope")
    return found


def _read(path: pathlib.Path) -> str:
    return path.read_text().strip()


def _pairs(path: pathlib.Path) -> dict[str, int]:
    lines = (line.split() for line in _read(path).splitlines())
    return {name: int(value) for name, value in lines}
