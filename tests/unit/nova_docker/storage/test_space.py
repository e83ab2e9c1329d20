# SPDX-License-Identifier: Apache-2.0
"""Jobs that fill the engine's disk get their shares from one ledger."""

from __future__ import annotations

import os
import types

import pytest
from nova import conf as nova_conf
from oslo_utils import units

from nova_docker.storage import space as module
from nova_docker.storage.space import DiskSpace
from nova_docker.storage.space import NoSpace

CONF = nova_conf.CONF


@pytest.fixture
def disk(monkeypatch):
    """A disk of 100 GiB with 10 GiB and 60,000 of a million inodes free."""
    found = types.SimpleNamespace(
        f_frsize=4096,
        f_blocks=100 * units.Gi // 4096,
        f_bavail=10 * units.Gi // 4096,
        f_files=1_000_000,
        f_favail=60_000,
    )
    monkeypatch.setattr(os, "statvfs", lambda path: found)
    return found


@pytest.fixture
def space(disk):
    return DiskSpace(lambda: "/var/lib/docker")


def test_a_job_gets_what_is_free_except_for_the_hosts_reserve(space):
    assert space.available() == (9 * units.Gi, 10_000)
    with space.reserve(9 * units.Gi, 10_000) as reservation:
        assert (reservation.size, reservation.files) == (9 * units.Gi, 10_000)
        assert space.available() == (0, 0)
    with (
        pytest.raises(NoSpace, match="9216 MiB of the engine's disk are free"),
        space.reserve(9 * units.Gi + 1),
    ):
        pytest.fail("reserved too much")
    with (
        pytest.raises(NoSpace, match="10000 inodes of the engine's disk are free"),
        space.reserve(0, 10_001),
    ):
        pytest.fail("reserved too much")
    assert space.available() == (9 * units.Gi, 10_000)


def test_jobs_at_the_same_time_share_the_space(space):
    with space.reserve(4 * units.Gi, 6000):
        with space.reserve(4 * units.Gi) as other:
            with pytest.raises(NoSpace, match="1024 MiB"):
                other.grow(2 * units.Gi)
            with pytest.raises(NoSpace, match="4000 inodes"):
                other.grow(0, 5000)
            other.grow(units.Gi, 4000)
            assert (other.size, other.files) == (5 * units.Gi, 4000)
        assert space.available() == (5 * units.Gi, 4000)
    assert space.available() == (9 * units.Gi, 10_000)


def test_a_failed_job_returns_its_share(space):
    with pytest.raises(NoSpace), space.reserve(units.Gi, 5) as reservation:
        reservation.grow(100 * units.Gi)
    assert space.available() == (9 * units.Gi, 10_000)


def test_what_others_write_counts(space, disk):
    with space.reserve(4 * units.Gi) as reservation:
        disk.f_bavail -= 6 * units.Gi // 4096
        assert space.available()[0] == -units.Gi
        with pytest.raises(NoSpace, match="0 MiB"):
            reservation.grow(1)


def test_a_file_system_may_have_no_fixed_number_of_inodes(space, disk):
    disk.f_files = disk.f_favail = 0
    with space.reserve(0, 10**12):
        assert space.available()[1] == float("inf")


def test_the_reserve_follows_the_disk_and_novas_option(space, disk, monkeypatch):
    assert module.kept(100 * units.Gi) == units.Gi
    assert module.kept(2 * units.Gi) == 2 * units.Gi // 20
    monkeypatch.setattr(CONF, "reserved_host_disk_mb", 3 * 1024, False)
    assert space.available()[0] == 7 * units.Gi


def test_the_directory_is_asked_for_at_each_look(disk):
    asked = []
    space = DiskSpace(lambda: asked.append(1) or "/")
    assert not asked
    space.available()
    with space.reserve(1):
        pass
    assert len(asked) == 2


def test_a_real_file_system_is_examined(tmp_path):
    size, files = DiskSpace(lambda: str(tmp_path)).available()
    assert isinstance(size, int) and files > 0
    with pytest.raises(FileNotFoundError):
        DiskSpace(lambda: str(tmp_path / "absent")).available()
