# SPDX-License-Identifier: Apache-2.0
"""A flavor's limits in the form of the Engine API."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import limits
from tests import samples

GIB = 1024


def pids(memory_mb, *, budget=96_000, most=4096, gvisor=False):
    return limits.pids(
        memory_mb,
        budget=budget,
        servers_memory_mb=24 * GIB,
        most=most,
        gvisor=gvisor,
    )


def test_the_number_of_processes_follows_the_memory():
    assert pids(512) == 2000
    assert pids(256) == 1000


def test_the_servers_of_a_full_host_stay_within_the_budget():
    for memory in (64, 100, 512, 1000, 4 * GIB):
        servers = 24 * GIB // memory
        assert servers * pids(memory) <= 96_000


def test_the_option_limits_a_server_with_much_memory():
    assert pids(4 * GIB) == 4096
    assert pids(4 * GIB, most=100) == 100


def test_without_the_option_the_share_remains_the_limit():
    assert pids(4 * GIB, most=0) == 16_000


def test_a_very_small_server_can_start():
    assert pids(6) == pids(6, most=1) == 32


def test_a_small_server_in_gvisor_can_start():
    """gVisor needs threads of its own, and ends if it gets none."""
    assert pids(64, most=1, gvisor=True) == 256
    assert pids(512, gvisor=True) == pids(512)


def test_very_small_servers_leave_processes_to_the_host():
    """The kernel allows 8,192 threads for each GiB, half of which is the budget."""
    # 12 MiB is for the engine's process of each server, 6 MiB the engine's minimum.
    servers = 24 * GIB // (12 + 6)
    assert servers * pids(6, budget=24 * 4096) < 24 * 4096


def test_a_flavor_is_converted_to_limits():
    flavor = samples.flavor(memory_mb=512, swap=256, vcpus=2)
    assert limits.limits(flavor, pids=100) == {
        "Memory": 512 * 2**20,
        "MemorySwap": (512 + 256) * 2**20,
        "CpuShares": 2048,
        "CpuPeriod": 100_000,
        "CpuQuota": 200_000,
        "PidsLimit": 100,
    }


def test_a_flavor_without_swap_allows_no_swap():
    found = limits.limits(samples.flavor(), pids=100)
    assert found["MemorySwap"] == found["Memory"]


@pytest.mark.parametrize(
    ("swap", "accounted", "host_mb", "reason"),
    [
        (1, False, 9, "does not limit the swap of containers"),
        (1, True, 0, "1 MiB of swap, and the host has 0 MiB"),
        (10, True, 9, "10 MiB of swap, and the host has 9 MiB"),
    ],
)
def test_swap_that_a_host_does_not_have_is_refused(swap, accounted, host_mb, reason):
    flavor = samples.flavor(swap=swap)
    with pytest.raises(exception.InvalidInput, match=reason):
        limits.refuse_swap(flavor, accounted=accounted, host_mb=host_mb)


def test_swap_that_a_host_has_is_accepted():
    limits.refuse_swap(samples.flavor(swap=0), accounted=False, host_mb=0)
    limits.refuse_swap(samples.flavor(swap=9), accounted=True, host_mb=9)


def test_cpu_shares_do_not_exceed_the_kernels_maximum():
    found = limits.limits(samples.flavor(vcpus=512), pids=1)
    assert found["CpuShares"] == 262_144


def test_a_root_disk_without_a_limit_has_no_storage_option():
    assert limits.storage(5) == {"StorageOpt": {"size": "5G"}}
    assert limits.storage(0) == {}
