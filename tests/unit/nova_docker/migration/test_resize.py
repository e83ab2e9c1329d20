# SPDX-License-Identifier: Apache-2.0
"""Which resizes are possible."""

from __future__ import annotations

import pytest
from nova import conf as nova_conf
from nova import exception

from nova_docker import conf
from nova_docker.migration import resize
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)


@pytest.fixture
def refuse():
    """Checks a resize, by default on this host and without a disk quota."""

    def check(
        old,
        new,
        *,
        moves=False,
        disk_quota=False,
        level="user",
        device=None,
        disks_gb=0,
    ):
        instance = samples.instance(flavor=samples.flavor(**old))
        flavor = samples.flavor(**new)
        resize.refuse(
            instance,
            flavor,
            moves=moves,
            disk_quota=disk_quota,
            disk_device=device,
            level=level,
            ephemeral_gb=disks_gb,
        )

    return check


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({}, {"memory_mb": 128, "vcpus": 2}),
        ({}, {"root_gb": 2}),
        ({"ephemeral_gb": 1}, {}),
    ],
)
def test_limits_and_an_unenforced_root_disk_can_change(refuse, old, new):
    refuse(old, new)


def test_the_isolation_cannot_change(refuse):
    with pytest.raises(exception.ResizeError, match="docker:isolation of the new"):
        refuse({}, {"extra_specs": {"docker:isolation": "shared"}})


def test_limits_of_the_flavor_that_the_host_cannot_keep_are_refused(refuse):
    with pytest.raises(
        exception.InvalidInput, match="cpu_period=5 is not in the range"
    ):
        refuse({}, {"extra_specs": {"quota:cpu_period": "5"}})


def test_limits_on_cpus_change_and_those_on_the_disk_stay(refuse):
    refuse({}, {"extra_specs": {"quota:cpu_shares": "10"}})
    limited = {"extra_specs": {"quota:disk_read_iops_sec": "10"}}
    refuse(limited, limited, device="/dev/vda")
    with pytest.raises(exception.ResizeError, match="disk_read_iops_sec of the new"):
        refuse({}, limited, device="/dev/vda")
    with pytest.raises(exception.ResizeError, match="disk_read_iops_sec of the new"):
        refuse(limited, {}, device="/dev/vda")


def test_a_smaller_root_disk_is_refused(refuse):
    with pytest.raises(exception.ResizeError, match="cannot shrink from 2 to 1 GB"):
        refuse({"root_gb": 2}, {"root_gb": 1})


def test_a_root_disk_that_the_engine_limits_cannot_grow(refuse):
    with pytest.raises(exception.ResizeError, match="cannot grow from 1 to 2 GB"):
        refuse({"root_gb": 1}, {"root_gb": 2}, disk_quota=True)
    refuse({"root_gb": 1}, {"root_gb": 1}, disk_quota=True)


def test_a_server_that_moves_gets_a_larger_root_disk(refuse):
    refuse({"root_gb": 1}, {"root_gb": 2}, disk_quota=True, moves=True)
    with pytest.raises(exception.ResizeError, match="cannot shrink from 2 to 1 GB"):
        refuse({"root_gb": 2}, {"root_gb": 1}, disk_quota=True, moves=True)


def test_ephemeral_disks_keep_their_size(refuse):
    refuse({"ephemeral_gb": 2}, {"ephemeral_gb": 2}, disks_gb=2)
    # The server was created with a smaller one than its flavor has.
    refuse({"ephemeral_gb": 2}, {"ephemeral_gb": 1}, disks_gb=1)
    for new in 0, 1, 3:
        with pytest.raises(exception.ResizeError, match="with 2 GB of them"):
            refuse({"ephemeral_gb": 2}, {"ephemeral_gb": new}, disks_gb=2)
    with pytest.raises(exception.ResizeError, match="with 0 GB of them"):
        refuse({}, {"ephemeral_gb": 1})


def test_a_flavor_that_no_container_can_have_is_refused(refuse):
    with pytest.raises(exception.InvalidInput, match="hw:numa_nodes=2"):
        refuse({}, {"extra_specs": {"hw:numa_nodes": "2"}})


def test_dedicated_cpus_that_nova_has_not_chosen_are_refused(refuse):
    with pytest.raises(exception.InvalidInput, match="hw:cpu_policy=dedicated needs"):
        refuse({}, {"extra_specs": {"hw:cpu_policy": "dedicated"}})
