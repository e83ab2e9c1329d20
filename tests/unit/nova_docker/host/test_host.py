# SPDX-License-Identifier: Apache-2.0
"""Resources of a host, and engines that are refused."""

from __future__ import annotations

import collections
import contextlib
import re
import types

import pytest
from nova import exception
from nova import objects
from nova.compute.monitors.cpu import virt_driver
from nova.objects import fields

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.host import host
from nova_docker.host import kernel
from nova_docker.host import numa
from tests import samples


@pytest.fixture(autouse=True)
def sysctls(monkeypatch):
    """Sets what the host learns about its kernel; by default, all is well."""

    def override(low=None, processes=16384):
        monkeypatch.setattr(kernel, "read", lambda: dict(kernel.WANTED) | (low or {}))
        monkeypatch.setattr(kernel, "processes_of_servers", lambda: processes)

    override()
    return override


@pytest.fixture(autouse=True)
def namespaces(monkeypatch):
    """The host can give servers a user namespace."""
    monkeypatch.setattr(
        "nova_docker.host.isolation._why_not_user", lambda *arguments: None
    )


@pytest.fixture
def client():
    return MockDockerClient()


@pytest.fixture
def connected_host(client):
    found = host.Host(client)
    found.connect("nova")
    return found


@pytest.mark.parametrize(
    "error",
    [
        errors.Unreachable("no connection to unix:///run/docker.sock"),
        errors.Forbidden("this user may not open unix:///run/docker.sock"),
        errors.UnsupportedVersion("Docker 19 speaks API 1.12 to 1.40"),
    ],
)
def test_the_error_for_an_unusable_engine_has_the_cause(client, error):
    client.fail_next("info", error)
    with pytest.raises(exception.NovaException, match=re.escape(error.message)):
        host.Host(client).connect("nova")


def test_the_error_for_a_missing_runtime_says_what_to_do(client):
    with pytest.raises(exception.NovaException, match="register nova-docker-runtime"):
        host.Host(client).connect("no-such-runtime")


def test_resources_are_those_of_the_engine(connected_host):
    resources = connected_host.resources()
    assert resources["vcpus"] == 8
    assert resources["memory_mb"] == 16 * 1024
    assert resources["hypervisor_type"] == "docker"
    assert resources["hypervisor_version"] == 20010024
    assert resources["supported_instances"] == [
        (fields.Architecture.X86_64, fields.HVType.DOCKER, fields.VMMode.EXE)
    ]


def test_an_inventory_has_ratios_and_reserved_amounts(connected_host, monkeypatch):
    monkeypatch.setattr(host.CONF, "reserved_host_memory_mb", 512, raising=False)
    ratios = {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    inventory = connected_host.inventory(ratios, disk_reserved=10)
    assert inventory["VCPU"] == {
        "total": 8,
        "min_unit": 1,
        "max_unit": 8,
        "step_size": 1,
        "allocation_ratio": 4.0,
        "reserved": host.CONF.reserved_host_cpus,
    }
    assert inventory["DISK_GB"]["reserved"] == 10


@pytest.fixture
def divided(monkeypatch):
    """The configuration gives CPUs 0 and 1 to all, and 2 to 7 to one server each."""
    sets = numa.CpuSets(frozenset({0, 1}), frozenset(range(2, 8)), configured=True)
    node = objects.NUMATopology(cells=[objects.NUMACell(id=0, cpuset={0, 1})])
    monkeypatch.setattr(numa, "cpu_sets", lambda: sets)
    monkeypatch.setattr(numa, "topology", lambda sets: node)


@pytest.mark.usefixtures("divided")
def test_dedicated_cpus_are_an_inventory_of_their_own(connected_host):
    ratios = {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    inventory = connected_host.inventory(ratios, disk_reserved=0)
    assert (inventory["VCPU"]["total"], inventory["PCPU"]["total"]) == (2, 6)
    assert inventory["PCPU"]["allocation_ratio"] == 1.0


def test_a_host_that_divides_no_cpus_has_no_dedicated_ones(connected_host):
    ratios = {"VCPU": 4.0, "MEMORY_MB": 1.0, "DISK_GB": 1.0}
    assert "PCPU" not in connected_host.inventory(ratios, disk_reserved=0)
    assert "CpusetCpus" not in connected_host.limits(samples.flavor(), "user")


@pytest.mark.usefixtures("divided")
def test_servers_without_dedicated_cpus_keep_to_the_shared_ones(connected_host):
    found = connected_host.limits(samples.flavor(), "user")
    assert (found["CpusetCpus"], found["CpusetMems"]) == ("0-1", "0")
    cell = objects.InstanceNUMACell(id=0, cpuset=set(), cpu_pinning={0: 5})
    topology = objects.InstanceNUMATopology(cells=[cell])
    found = connected_host.limits(samples.flavor(), "user", topology)
    assert (found["CpusetCpus"], found["CpusetMems"]) == ("5", "0")


def test_uptime_has_the_format_of_the_command(connected_host):
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d up \d+ days, [\d ]\d:\d\d,  \d+ users,  "
        r"load average: [\d.]+, [\d.]+, [\d.]+",
        connected_host.uptime(),
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
def test_root_disks_are_limited_if_the_storage_driver_can(
    client, mocker, driver, mounts, limited
):
    info = client.info() | {"Driver": driver, "DockerRootDir": "/var/lib/docker"}
    mocker.patch.object(client, "info", return_value=info)
    mocker.patch("psutil.disk_partitions", return_value=mounts)
    warning = mocker.patch.object(host.LOG, "warning")
    found = host.Host(client)
    found.connect("nova")
    assert found.disk_quota is limited
    assert warning.called is not limited


def test_limits_of_the_kernel_that_one_server_can_use_up_are_reported_once(
    client, mocker, sysctls
):
    sysctls({"kernel.pty.max": 4096, "fs.inotify.max_user_instances": 128})
    warning = mocker.patch.object(host.LOG, "warning")
    host.Host(client).connect("nova")
    lines = [call.args[0] % call.args[1:] for call in warning.call_args_list]
    [line] = [line for line in lines if "sysctl" in line]
    assert "kernel.pty.max = 4096 (should be 263168)" in line
    assert "fs.inotify.max_user_instances = 128" in line
    assert "60-nova-docker.conf" in line


def test_a_server_gets_the_share_of_processes_that_it_has_of_the_memory(connected_host):
    flavor = samples.flavor(memory_mb=1024)
    assert connected_host.limits(flavor, "user")["PidsLimit"] == 16384 // 16


@pytest.mark.parametrize(
    ("level", "expected"), [("user", 32), ("shared", 32), ("gvisor", 256)]
)
def test_a_server_has_at_least_as_many_processes_as_its_level_needs(
    connected_host, level, expected
):
    smallest = samples.flavor(memory_mb=1)
    assert connected_host.limits(smallest, level)["PidsLimit"] == expected


def test_memory_that_nova_oversubscribes_counts(connected_host):
    flavor = samples.flavor(memory_mb=1024)
    ratios = {"VCPU": 4.0, "MEMORY_MB": 2.0, "DISK_GB": 1.0}
    connected_host.inventory(ratios, disk_reserved=0)
    assert connected_host.limits(flavor, "user")["PidsLimit"] == 16384 // 32


@pytest.fixture
def configured_ratio():
    host.CONF.set_override("ram_allocation_ratio", 4.0)
    yield
    host.CONF.clear_override("ram_allocation_ratio")


def test_before_nova_knows_the_ratio_the_configured_one_counts(
    client, configured_ratio
):
    found = host.Host(client)
    found.connect("nova")
    assert (
        found.limits(samples.flavor(memory_mb=1024), "user")["PidsLimit"] == 16384 // 64
    )


def test_engines_of_one_host_have_different_ids(client, mocker):
    ids = set()
    for directory in ("/var/lib/docker", "/var/lib/other"):
        info = client.info() | {"DockerRootDir": directory}
        mocker.patch.object(client, "info", return_value=info)
        found = host.Host(client)
        found.connect("nova")
        ids.add(found.engine_id)
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("engine", "criu", "reason"),
    [
        ({}, "/usr/sbin/criu", None),
        ({}, None, "criu is not installed"),
        ({"ExperimentalBuild": False}, "/usr/sbin/criu", "experimental features"),
        ({"ServerVersion": "28.5.2"}, "/usr/sbin/criu", "Docker 28.5.2 writes"),
    ],
)
def test_servers_are_suspended_to_disk_only_if_they_can_be_resumed(
    client, mocker, caplog, engine, criu, reason
):
    mocker.patch.object(client, "info", return_value=client.info() | engine)
    mocker.patch("shutil.which", return_value=criu)
    found = host.Host(client)
    with caplog.at_level("INFO"):
        found.connect("nova")
    assert found.saves_memory == (reason is None)
    logged = f"not to disk: {reason}" if reason else "to disk with /usr/sbin/criu"
    assert logged in caplog.text


@pytest.mark.parametrize("frequency", [None, 2596.1])
def test_novas_cpu_monitor_accepts_the_statistics(
    connected_host, mocker, monkeypatch, frequency
):
    monkeypatch.setattr(type(virt_driver.CONF), "compute_driver", "x", raising=False)
    reading = frequency and mocker.Mock(current=frequency)
    mocker.patch("psutil.cpu_freq", return_value=reading)
    tracker = mocker.Mock()
    tracker.driver.get_host_cpu_stats = connected_host.cpu_stats
    metrics = objects.MonitorMetricList(objects=[])

    virt_driver.Monitor(tracker).populate_metrics(metrics)

    values = {metric.name: metric.value for metric in metrics.objects}
    assert values["cpu.frequency"] == int(frequency or 0)
    assert values["cpu.user.time"] > 0 and values["cpu.idle.time"] > 0
    assert 0 <= values["cpu.percent"] <= 100


@pytest.mark.parametrize(
    ("binary", "commit", "missing"),
    [
        ("sh", "N/A", False),
        ("no-such-init", "N/A", True),
        ("no-such-init", None, True),
        # The engine has found it where this process does not look.
        ("no-such-init", "", False),
        ("no-such-init", "de40ad0", False),
    ],
)
def test_a_missing_init_of_the_engine_is_noticed(
    connected_host, binary, commit, missing
):
    connected_host._info |= {"InitBinary": binary}
    if commit is not None:
        connected_host._info |= {"InitCommit": {"ID": commit}}
    found = connected_host.missing_inits
    assert ("docker-init" in found) is missing
    assert binary in found.get("docker-init", binary)


@pytest.mark.parametrize(
    ("limit", "swap", "reason"),
    [
        (False, 64, "does not limit"),
        (True, 63, "the host has 63 MiB"),
        (True, 64, None),
    ],
)
def test_a_flavor_needs_the_hosts_swap(client, monkeypatch, limit, swap, reason):
    info = client.info() | {"SwapLimit": limit}
    monkeypatch.setattr(client, "info", lambda: info)
    total = types.SimpleNamespace(total=swap << 20)
    monkeypatch.setattr("psutil.swap_memory", lambda: total)
    found = host.Host(client)
    found.connect("nova")
    with (
        pytest.raises(exception.InvalidInput, match=reason)
        if reason
        else contextlib.nullcontext()
    ):
        found.refuse_swap(samples.flavor(swap=64))
    found.refuse_swap(samples.flavor())
