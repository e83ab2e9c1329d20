# SPDX-License-Identifier: Apache-2.0
"""The limits of a flavor, as the engine's."""

from __future__ import annotations

from nova_docker.container import limits
from tests import samples


def test_a_flavor_becomes_limits():
    flavor = samples.flavor(memory_mb=512, swap=256, vcpus=2)
    assert limits.limits(flavor, pids=100) == {
        "Memory": 512 * 2**20,
        "MemorySwap": (512 + 256) * 2**20,
        "CpuShares": 2048,
        "CpuPeriod": 100_000,
        "CpuQuota": 200_000,
        "PidsLimit": 100,
    }


def test_no_swap_in_the_flavor_is_no_swap_in_the_server():
    found = limits.limits(samples.flavor(), pids=100)
    assert found["MemorySwap"] == found["Memory"]


def test_shares_stay_in_what_the_kernel_takes():
    found = limits.limits(samples.flavor(vcpus=512), pids=1)
    assert found["CpuShares"] == 262_144


def test_a_root_disk_without_a_limit_has_no_storage_option():
    assert limits.storage(5) == {"StorageOpt": {"size": "5G"}}
    assert limits.storage(0) == {}
