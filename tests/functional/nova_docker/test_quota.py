# SPDX-License-Identifier: Apache-2.0
"""The quota: extra specs of flavors on a real engine and a real switch."""

from __future__ import annotations

import pathlib
import re
import subprocess
import time

import pytest
from nova import exception

from nova_docker.driver import CONF
from tests import samples
from tests.functional import loops

RATE = 500  # kB/s
LEVELS = {
    "user": {"docker:net_admin": "false"},
    "shared": {"docker:isolation": "shared"},
    "gvisor": {"docker:isolation": "gvisor"},
}


def flavor(specs=None, vcpus=1, memory_mb=64, **quotas):
    named = {f"quota:{name}": str(value) for name, value in quotas.items()}
    return samples.flavor(
        vcpus=vcpus, memory_mb=memory_mb, extra_specs=named | (specs or {})
    )


def resize(driver, server, wanted):
    driver.migrate_disk_and_power_off(
        None, server.instance, CONF.my_ip, wanted, server.network_info
    )
    server.instance.flavor = wanted


def cgroup_file(server, controller, v1, v2):
    """Return a file of a server's control group, as the kernel has it."""
    for line in pathlib.Path(f"/proc/{server.pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return pathlib.Path(f"/sys/fs/cgroup/{controller}{path}/{v1}").read_text()
    return pathlib.Path(f"/sys/fs/cgroup{path}/{v2}").read_text()


def cpu(server):
    """Return shares or weight, and quota and period, as the kernel has them."""
    config = server.inspect()["HostConfig"]
    quota = cgroup_file(server, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0]
    assert int(quota) == config["CpuQuota"]
    return config["CpuShares"], config["CpuQuota"], config["CpuPeriod"]


def test_a_resize_changes_the_cpu_limits_of_a_running_server(driver, boot):
    server = boot(flavor=flavor(vcpus=2, cpu_quota=10_000, cpu_period=50_000))
    assert cpu(server) == (2048, 20_000, 50_000)
    before = server.inspect()["State"]
    resize(driver, server, flavor(cpu_shares=64))
    assert cpu(server) == (64, 100_000, 100_000)
    resize(driver, server, flavor(cpu_quota=1000))
    assert cpu(server) == (1024, 1000, 100_000)
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert cpu(server) == (1024, 1000, 100_000)
    assert before["Pid"]


def seconds(run):
    began = time.monotonic()
    run()
    return time.monotonic() - began


@pytest.mark.parametrize("level", ["user", "shared"])
@pytest.mark.parametrize(
    "limit", [{"disk_read_bytes_sec": 2**20}, {"disk_read_iops_sec": 4}]
)
def test_reads_of_the_root_disk_are_limited(boot, level, limit):
    specs = LEVELS[level]
    read = "dd if=/file of=/dev/null bs=256k iflag=direct 2>&1"
    write = "dd if=/dev/zero of=/file bs=256k count=8 oflag=direct 2>&1"
    for limits, least, most in (({}, 0, 1), (limit, 1.5, 5)):
        server = boot(flavor=flavor(specs, **limits))
        server.run(write)
        # 2 MiB in 8 operations, the first of which are for free
        assert least <= seconds(lambda: server.run(read)) < most  # noqa: B023


def test_disk_limits_stay_when_a_server_starts_again(driver, boot):
    server = boot(flavor=flavor(disk_read_iops_sec=7))

    def kernels():
        return cgroup_file(
            server, "blkio", "blkio.throttle.read_iops_device", "io.max"
        ).split()[-1]

    assert re.search("7$", kernels())
    driver.power_off(server.instance)
    driver.power_on(None, server.instance, server.network_info)
    assert re.search("7$", kernels())


@pytest.fixture
def volume(tmp_path):
    with loops.made(tmp_path / "volume") as made:
        yield made


READ_VOLUME = "dd if=/dev/vdb of=/dev/null bs=256k count=8 iflag=direct 2>&1"


def throttle(server, volume):
    """Return a server's limit on reading a volume, as the kernel has it."""
    limits = cgroup_file(server, "blkio", "blkio.throttle.read_bps_device", "io.max")
    [found] = [line for line in limits.splitlines() if line.startswith(volume.number)]
    return found


@pytest.mark.parametrize("level", ["user", "shared"])
def test_reads_of_a_volume_are_limited(driver, boot, volume, level):
    limited = flavor(LEVELS[level], disk_read_bytes_sec=2**20)
    server = boot(flavor=limited)
    driver.attach_volume(None, volume.connection_info(), server.instance, "/dev/vdb")
    assert "1048576" in throttle(server, volume)
    assert 1.5 <= seconds(lambda: server.run(READ_VOLUME)) < 5
    driver.power_off(server.instance)
    attached = loops.info(volume.mapping("/dev/vdb"))
    driver.power_on(None, server.instance, server.network_info, attached)
    assert "1048576" in throttle(server, volume)
    assert 1.5 <= seconds(lambda: server.run(READ_VOLUME)) < 5
    driver.detach_volume(None, volume.connection_info(), server.instance, "/dev/vdb")


def test_a_volume_of_a_flavor_without_a_limit_is_read_at_once(driver, boot, volume):
    server = boot(block_device_info=loops.info(volume.mapping("/dev/vdb")))
    assert seconds(lambda: server.run(READ_VOLUME)) < 1
    driver.detach_volume(None, volume.connection_info(), server.instance, "/dev/vdb")


def transfer(sender, receiver, address):
    """Return the seconds in which one server fetches 1 MiB from another, by HTTP."""
    sender.run("head -c 1048576 /dev/zero > /file; httpd -p 80 -h /")
    fetch = f"printf 'GET /file HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {address} 80 | wc -c"
    began = time.monotonic()
    assert int(receiver.run(fetch)) > 2**20
    return time.monotonic() - began


def shapers(server):
    """Return the number of shapers of a server's first NIC."""
    command = ["ip", "netns", "exec", server.name, "tc", "qdisc", "show", "dev", "eth0"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return shown.count("qdisc tbf")


@pytest.mark.parametrize("level", LEVELS)
def test_what_a_nic_sends_is_limited(boot, level):
    limits = {"vif_outbound_average": RATE, "vif_outbound_burst": 32}
    memory = 256 if level == "gvisor" else 64
    server = boot(flavor=flavor(LEVELS[level], memory_mb=memory, **limits))
    other = boot()
    # 1 MiB at 500 kB/s
    assert 1.7 < transfer(server, other, "192.0.2.10") < 8


def test_what_it_receives_is_not_limited(boot):
    server = boot(flavor=flavor(LEVELS["user"], vif_outbound_average=RATE))
    assert transfer(boot(), server, "192.0.2.11") < 1.7


def test_limits_of_nics_change_while_a_server_runs(driver, boot):
    net_admin = LEVELS["user"]
    limited = flavor(net_admin, vif_outbound_average=RATE, vif_outbound_peak=2 * RATE)
    server = boot(flavor=flavor(net_admin))
    assert shapers(server) == 0
    resize(driver, server, limited)
    assert shapers(server) == 2
    resize(driver, server, flavor(net_admin))
    assert shapers(server) == 0


@pytest.mark.parametrize("level", LEVELS)
def test_limits_of_nics_survive_a_restart(driver, make_driver, boot, level):
    limited = flavor(LEVELS[level], memory_mb=256, vif_outbound_average=9)
    server = boot(flavor=limited)
    assert shapers(server) == 1
    driver.power_off(server.instance)
    driver.power_on(None, server.instance, server.network_info)
    assert shapers(server) == 1
    make_driver().plug_vifs(server.instance, server.network_info)
    assert shapers(server) == 1


@pytest.mark.parametrize(
    "wanted",
    [
        flavor(cpu_period=10),
        flavor(disk_read_iops_sec="many"),
        flavor(vif_outbound_peak=10),
        flavor(vif_outbound_average=10),
        flavor(disk_write_iops_sec=10),
    ],
)
def test_a_limit_that_cannot_hold_is_refused_before_anything_is_made(
    driver, boot, wanted
):
    with pytest.raises(exception.InvalidInput, match="quota:"):
        boot(flavor=wanted)
    server = boot()
    before = server.inspect()["HostConfig"]
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        resize(driver, server, wanted)
    assert isinstance(refused.value.inner_exception, exception.InvalidInput)
    assert server.inspect()["HostConfig"] == before
