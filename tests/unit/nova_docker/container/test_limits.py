# SPDX-License-Identifier: Apache-2.0
"""A flavor's limits in the form of the Engine API."""

from __future__ import annotations

from nova_docker.container import limits
from tests import samples


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


def test_cpu_shares_do_not_exceed_the_kernels_maximum():
    found = limits.limits(samples.flavor(vcpus=512), pids=1)
    assert found["CpuShares"] == 262_144


def test_a_root_disk_without_a_limit_has_no_storage_option():
    assert limits.storage(5) == {"StorageOpt": {"size": "5G"}}
    assert limits.storage(0) == {}
