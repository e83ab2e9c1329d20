# SPDX-License-Identifier: Apache-2.0
"""The quota: extra specs of flavors."""

from __future__ import annotations

import pytest
from nova import exception
from nova.api.validation.extra_specs import quota as nova_quota

from nova_docker.container import quota
from tests import samples

_VMWARES = tuple(
    f"quota:{kind}_{value}"
    for kind in ("cpu", "memory", "disk_io", "vif")
    for value in ("limit", "reservation", "shares_level", "shares_share")
)


def flavor(vcpus=1, isolation=None, **quotas):
    specs = {f"quota:{name}": str(value) for name, value in quotas.items()}
    if isolation:
        specs |= isolation
    return samples.flavor(vcpus=vcpus, extra_specs=specs)


def refused(match, *, level="user", device="/dev/vda", isolation=None, **quotas):
    with pytest.raises(exception.InvalidInput, match=match):
        quota.refuse(flavor(isolation=isolation, **quotas), level, device)


def test_a_flavor_without_quotas_has_its_vcpus_and_nothing_else():
    plain = flavor(vcpus=2)
    assert quota.cpu(plain) == {
        "CpuShares": 2048,
        "CpuPeriod": 100_000,
        "CpuQuota": 200_000,
    }
    assert quota.disk(plain, None) == {}
    assert quota.sending(plain) is None
    quota.refuse(plain, "user", None)


def test_a_quota_counts_for_each_vcpu():
    found = quota.cpu(flavor(vcpus=4, cpu_quota=5_000, cpu_period=20_000))
    assert (found["CpuPeriod"], found["CpuQuota"]) == (20_000, 20_000)


@pytest.mark.parametrize("unlimited", [-1, 0, 2**40])
def test_a_server_never_has_more_cpus_than_vcpus(unlimited):
    found = quota.cpu(flavor(vcpus=2, cpu_quota=unlimited, cpu_period=50_000))
    assert (found["CpuPeriod"], found["CpuQuota"]) == (50_000, 100_000)


def test_shares_are_those_of_the_whole_server():
    assert quota.cpu(flavor(vcpus=4, cpu_shares=100))["CpuShares"] == 100
    assert quota.cpu(flavor(vcpus=4, cpu_shares=0))["CpuShares"] == 4096


def test_reads_of_the_disk_are_limited():
    both = flavor(disk_read_bytes_sec=1000, disk_read_iops_sec=3)
    assert quota.disk(both, "/dev/vda") == {
        "BlkioDeviceReadBps": [{"Path": "/dev/vda", "Rate": 1000}],
        "BlkioDeviceReadIOps": [{"Path": "/dev/vda", "Rate": 3}],
    }
    assert quota.disk(flavor(disk_read_iops_sec=0), "/dev/vda") == {}


def test_a_host_without_a_disk_to_limit_refuses():
    refused("not on a block device", device=None, disk_read_iops_sec=3)


def test_rates_have_libvirts_units():
    found = quota.sending(
        flavor(
            vif_outbound_average=1000, vif_outbound_peak=2000, vif_outbound_burst=512
        )
    )
    assert found[:3] == (1_000_000, 2_000_000, 512 * 1024)


def test_a_rate_alone_has_a_bucket_that_the_largest_packet_fits():
    found = quota.sending(flavor(vif_outbound_average=1))
    assert found.peak == 0
    assert found.burst > 9000 + 14
    assert found.queue >= found.burst


def test_a_peak_that_is_the_average_is_none():
    found = quota.sending(flavor(vif_outbound_average=10, vif_outbound_peak=10))
    assert found.peak == 0


@pytest.mark.parametrize(
    ("quotas", "match"),
    [
        ({"cpu_shares": "many"}, "cpu_shares=many is not a whole number"),
        ({"cpu_shares": -1}, "cpu_shares=-1 is negative"),
        ({"cpu_shares": 1}, "range from 2 to 262144"),
        ({"cpu_shares": 262_145}, "range from 2 to 262144"),
        ({"cpu_period": 999}, "range from 1000 to 1000000"),
        ({"cpu_period": 1_000_001}, "range from 1000 to 1000000"),
        ({"cpu_quota": 999}, "cpu_quota=999 is not in the range"),
        ({"disk_read_bytes_sec": "1.5"}, "not a whole number"),
        ({"disk_read_iops_sec": -5}, "is negative"),
        ({"disk_read_bytes_sec": 2**63}, "not in the range"),
        ({"vif_outbound_average": "1M"}, "not a whole number"),
        ({"vif_outbound_average": 4_294_968}, "at most 4294967"),
        (
            {"vif_outbound_average": 1, "vif_outbound_peak": 5_000_000},
            "at most 4294967",
        ),
        ({"vif_outbound_peak": 10}, "need quota:vif_outbound_average"),
        ({"vif_outbound_burst": 10}, "need quota:vif_outbound_average"),
        ({"vif_outbound_average": 10, "vif_outbound_peak": 9}, "not be less"),
        ({"vif_outbound_average": 10, "vif_outbound_burst": 601}, "at most 60 times"),
    ],
)
def test_a_malformed_limit_is_refused_by_name(quotas, match):
    refused(match, **quotas)


@pytest.mark.parametrize("level", ["shared", "gvisor"])
def test_what_a_server_sends_is_limited_where_root_cannot_reach(level):
    limited = {"vif_outbound_average": 10}
    refused("needs docker:net_admin=false", **limited)
    quota.refuse(flavor(**limited), level, None)
    without = {"docker:net_admin": "false"}
    quota.refuse(flavor(isolation=without, **limited), "user", None)


def test_only_a_change_of_disk_limits_is_refused():
    before = flavor(disk_read_iops_sec=3)
    quota.refuse_change(before, flavor(disk_read_iops_sec=3, cpu_shares=5))
    with pytest.raises(exception.ResizeError, match="quota:disk_read_iops_sec"):
        quota.refuse_change(before, flavor())


def test_the_names_are_those_that_nova_documents():
    documented = {found.name for found in nova_quota.register()}
    assert documented >= quota.NAMES
    libvirts = {name for name in documented if not name.startswith(_VMWARES)}
    # The kernel has no limit for the sum of reads and writes, and one for writes would
    # slow down the host. Open vSwitch removes a limit on what a server receives.
    refused = ("quota:disk_write_", "quota:disk_total_", "quota:vif_inbound_")
    assert libvirts - quota.NAMES == {
        name for name in libvirts if name.startswith(refused)
    }
