# SPDX-License-Identifier: Apache-2.0
"""A server's resource usage, in Nova's two forms."""

import collections

import pytest
from oslo_utils import timeutils

from nova_docker import diagnostics
from tests import samples

MIB = 2**20
NIC = collections.namedtuple(
    "NIC",
    "bytes_sent bytes_recv packets_sent packets_recv errin errout dropin dropout",
)
VIF = samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.10"))
COUNTERS = {VIF["devname"]: NIC(1000, 2000, 10, 20, 1, 2, 3, 4)}


def stats(**cpu_usage):
    return {
        "memory_stats": {
            "usage": 40 * MIB,
            "limit": 64 * MIB,
            "stats": {"total_inactive_file": 8 * MIB},
        },
        "cpu_stats": {"cpu_usage": {"total_usage": 30, **cpu_usage}},
        "blkio_stats": {
            "io_service_bytes_recursive": [
                {"major": 8, "minor": 0, "op": "Read", "value": 4096},
                {"major": 8, "minor": 0, "op": "Write", "value": 8192},
                {"major": 8, "minor": 0, "op": "Total", "value": 12288},
                {"major": 8, "minor": 16, "op": "read", "value": 1},
            ]
        },
    }


def test_the_legacy_form_has_libvirts_keys():
    assert diagnostics.legacy(
        stats(percpu_usage=[10, 20]), "user", [VIF], COUNTERS
    ) == {
        "isolation": "user",
        "cpu0_time": 10,
        "cpu1_time": 20,
        "memory": 64 * 1024,
        "memory-actual": 32 * 1024,
        "memory-rss": 40 * 1024,
        "root_read": 4097,
        "root_write": 8192,
        f"{VIF['devname']}_rx": 1000,
        f"{VIF['devname']}_rx_packets": 10,
        f"{VIF['devname']}_rx_errors": 2,
        f"{VIF['devname']}_rx_drop": 4,
        f"{VIF['devname']}_tx": 2000,
        f"{VIF['devname']}_tx_packets": 20,
        f"{VIF['devname']}_tx_errors": 1,
        f"{VIF['devname']}_tx_drop": 3,
    }


def test_the_standard_form_has_cpu_memory_disk_and_nics():
    instance = samples.instance(launched_at=timeutils.utcnow())
    found = diagnostics.standard(stats(), instance, "running", [VIF], COUNTERS)
    assert (found.state, found.hypervisor, found.hypervisor_os) == (
        "running",
        "docker",
        "linux",
    )
    assert not found.config_drive and found.uptime >= 0
    assert (found.memory_details.maximum, found.memory_details.used) == (64, 32)
    assert [cpu.time for cpu in found.cpu_details] == [30]
    [nic] = found.nic_details
    assert nic.mac_address == VIF["address"]
    assert (nic.rx_octets, nic.tx_octets, nic.rx_drop) == (1000, 2000, 4)
    [disk] = found.disk_details
    assert (disk.read_bytes, disk.write_bytes) == (4097, 8192)
    assert (found.num_cpus, found.num_nics, found.num_disks) == (1, 1, 1)


@pytest.mark.parametrize("counters", [{}, COUNTERS])
def test_an_unplugged_nic_has_no_counters(counters):
    other = samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.11"))
    found = diagnostics.legacy(stats(), "user", [other], counters)
    assert not [name for name in found if name.startswith("tap")]


def test_used_memory_excludes_file_cache_in_both_cgroup_versions():
    v2 = {"memory_stats": {"usage": 10, "limit": 20, "stats": {"inactive_file": 4}}}
    assert diagnostics.memory_used(v2) == 6
    assert diagnostics.memory_used(stats()) == 32 * MIB
