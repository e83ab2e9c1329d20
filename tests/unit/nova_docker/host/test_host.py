# SPDX-License-Identifier: Apache-2.0
"""What is said of a host, and which engines are refused."""

from __future__ import annotations

import collections
import re

import pytest
from nova import exception
from nova import objects
from nova.compute.monitors.cpu import virt_driver
from nova.objects import fields

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.host import host


@pytest.fixture
def client():
    return MockDockerClient()


@pytest.fixture
def room(client):
    connected = host.Host(client)
    connected.connect("nova")
    return connected


@pytest.mark.parametrize(
    "error",
    [
        errors.Unreachable("no connection to unix:///run/docker.sock"),
        errors.Forbidden("this user may not open unix:///run/docker.sock"),
        errors.UnsupportedVersion("Docker 19 speaks API 1.12 to 1.40"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_in_its_words(client, error):
    client.fail_next("info", error)
    with pytest.raises(exception.NovaException, match=re.escape(error.message)):
        host.Host(client).connect("nova")


def test_an_engine_without_the_runtime_is_refused_with_what_to_do(client):
    with pytest.raises(exception.NovaException, match="register nova-docker-runtime"):
        host.Host(client).connect("no-such-runtime")


def test_resources_are_the_engines(room):
    resources = room.resources()
    assert resources["vcpus"] == 8
    assert resources["memory_mb"] == 16 * 1024
    assert resources["hypervisor_type"] == "docker"
    assert resources["hypervisor_version"] == 20010024
    assert resources["supported_instances"] == [
        (fields.Architecture.X86_64, fields.HVType.DOCKER, fields.VMMode.EXE)
    ]


def test_inventories_have_ratios_and_reserved_amounts(room, monkeypatch):
    monkeypatch.setattr(host.CONF, "reserved_host_memory_mb", 512, raising=False)
    ratios = {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    inventory = room.inventory(ratios, disk_reserved=10)
    assert inventory["VCPU"] == {
        "total": 8,
        "min_unit": 1,
        "max_unit": 8,
        "step_size": 1,
        "allocation_ratio": 4.0,
        "reserved": host.CONF.reserved_host_cpus,
    }
    assert inventory["DISK_GB"]["reserved"] == 10


def test_uptime_reads_as_uptimes(room):
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d up \d+ days, [\d ]\d:\d\d,  \d+ users,  "
        r"load average: [\d.]+, [\d.]+, [\d.]+",
        room.uptime(),
    )


Mount = collections.namedtuple("Mount", "mountpoint opts")


@pytest.mark.parametrize(
    ("driver", "mounts", "limited"),
    [
        ("overlay2", [Mount("/", "rw")], False),
        ("overlay2", [Mount("/", "rw"), Mount("/var", "rw,prjquota")], True),
        ("overlay2", [Mount("/", "rw,pquota"), Mount("/var", "rw")], False),
        ("btrfs", [], True),
        ("vfs", [Mount("/", "rw,pquota")], False),
    ],
)
def test_root_disks_are_limited_where_the_storage_driver_can(
    client, mocker, driver, mounts, limited
):
    info = client.info() | {"Driver": driver, "DockerRootDir": "/var/lib/docker"}
    mocker.patch.object(client, "info", return_value=info)
    mocker.patch("psutil.disk_partitions", return_value=mounts)
    warning = mocker.patch.object(host.LOG, "warning")
    room = host.Host(client)
    room.connect("nova")
    assert room.disk_quota is limited
    assert warning.called is not limited


def test_engines_of_one_host_are_told_apart(client, mocker):
    ids = set()
    for directory in ("/var/lib/docker", "/var/lib/other"):
        info = client.info() | {"DockerRootDir": directory}
        mocker.patch.object(client, "info", return_value=info)
        room = host.Host(client)
        room.connect("nova")
        ids.add(room.engine_id)
    assert len(ids) == 2


@pytest.mark.parametrize("frequency", [None, 2596.1])
def test_novas_monitor_takes_the_statistics(room, mocker, monkeypatch, frequency):
    monkeypatch.setattr(type(virt_driver.CONF), "compute_driver", "x", raising=False)
    told = frequency and mocker.Mock(current=frequency)
    mocker.patch("psutil.cpu_freq", return_value=told)
    tracker = mocker.Mock()
    tracker.driver.get_host_cpu_stats = room.cpu_stats
    metrics = objects.MonitorMetricList(objects=[])

    virt_driver.Monitor(tracker).populate_metrics(metrics)

    values = {metric.name: metric.value for metric in metrics.objects}
    assert values["cpu.frequency"] == int(frequency or 0)
    assert values["cpu.user.time"] > 0 and values["cpu.idle.time"] > 0
    assert 0 <= values["cpu.percent"] <= 100
