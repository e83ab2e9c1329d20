# SPDX-License-Identifier: Apache-2.0
"""Ephemeral disks on a real engine: files of the host, as loop devices."""

from __future__ import annotations

import itertools
import pathlib
import re
import shutil
import subprocess

import pytest
from nova import exception
from nova import objects
from nova.compute import vm_states
from oslo_concurrency import processutils

from nova_docker.container import isolation
from nova_docker.driver import CONF
from nova_docker.host import cgroup
from nova_docker.privsep import devices
from nova_docker.privsep import loops as privileged_loops
from tests import samples
from tests.functional import loops

LEVELS = (isolation.USER, isolation.SHARED)
INFO = loops.info(ephemerals=[loops.ephemeral()])
GIB = 1 << 30
FAR = 700  # MiB: far from what mkfs writes


@pytest.fixture(params=LEVELS)
def flavor(request):
    extra_specs = {"docker:isolation": request.param}
    return samples.flavor(ephemeral_gb=1, extra_specs=extra_specs)


@pytest.fixture
def files(configuration):
    """The directory of all ephemeral disks of the host."""
    return pathlib.Path(CONF.state_path, "docker-ephemeral-disks")


@pytest.fixture
def left(files, monkeypatch):
    """Returns what a test has left: files, loop devices, and servers with devices."""
    servers = set()
    record = devices.record

    def noted(server, *arguments, **more):
        servers.add(server)
        return record(server, *arguments, **more)

    monkeypatch.setattr(devices, "record", noted)
    return lambda: [
        *files.glob("*"),
        *loops.below(files),
        *filter(devices.has_any, servers),
    ]


@pytest.fixture(autouse=True)
def no_disk_is_left(left):
    yield
    assert left() == []


@pytest.fixture
def disk(boot, flavor):
    """A server with an ephemeral disk."""
    return boot(flavor=flavor, block_device_info=INFO)


def write(server, text="hello", mib=FAR, device="/dev/vdb"):
    server.run(f"printf {text} | dd of={device} bs=1M seek={mib} conv=fsync,notrunc")


def read(server, mib=FAR, device="/dev/vdb"):
    return server.run(f"dd if={device} bs=1M skip={mib} count=1 | head -c 5")


def has(server, device="/dev/vdb"):
    return bool(server.run(f"test -b {device} && echo yes || :"))


def probe(file):
    """Return what is on a disk, as the host's blkid finds it."""
    command = ["blkid", "--probe", "--output=export", file]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in lines.splitlines())


def delete(driver, server):
    driver.destroy(None, server.instance, server.network_info, INFO)


def test_a_server_has_a_formatted_disk_before_its_first_process(
    boot, image, flavor, files
):
    command = "blockdev --getsize64 /dev/vdb > /seen; sleep 1000"
    server = boot(
        image(config={"Cmd": ["sh", "-c", command]}),
        flavor=flavor,
        block_device_info=INFO,
    )
    assert server.run("until test -s /seen; do :; done; cat /seen").strip() == str(GIB)
    file = files / server.instance.uuid / "vdb"
    found = probe(file)
    assert (found["TYPE"], found["LABEL"]) == ("ext4", "ephemeral0")
    assert file.stat().st_mode & 0o777 == 0o600
    # What mkfs has written, and not the whole disk
    assert file.stat().st_blocks * 512 < GIB // 8


def test_a_server_has_several_disks_in_the_formats_that_it_requests(
    boot, files, monkeypatch
):
    server = boot(
        block_device_info=loops.info(
            ephemerals=[
                loops.ephemeral("/dev/vdb", guest_format="ext2"),
                loops.ephemeral("/dev/vdd", size=2),
            ]
        )
    )
    for name, kind, label in (
        ("vdb", "ext2", "ephemeral0"),
        ("vdd", "ext4", "ephemeral1"),
    ):
        found = probe(files / server.instance.uuid / name)
        assert (found["TYPE"], found["LABEL"]) == (kind, label)
        assert has(server, f"/dev/{name}")


def restart_host(server, files):
    """Take away what a host forgets when it restarts."""
    for name in devices.recorded(server.name):
        devices.forget(server.name, name)
    for file in loops.below(files):
        privileged_loops.detach(file)


def restart(driver, server, how, files):
    if how == "host":
        driver.power_off(server.instance, 0)
        restart_host(server, files)
        driver.power_on(None, server.instance, server.network_info, INFO)
    else:
        loops.restart(driver, server, INFO, how)


@pytest.mark.parametrize("how", ["SOFT", "HARD", "engine", "docker", "power", "host"])
def test_a_disk_survives_a_restart(driver, disk, soon, how, files):
    write(disk)
    before = probe(files / disk.instance.uuid / "vdb")
    restart(driver, disk, how, files)
    assert read(disk) == "hello"
    assert probe(files / disk.instance.uuid / "vdb")["UUID"] == before["UUID"]


def test_a_disk_survives_a_restart_of_nova_compute(make_driver, disk):
    write(disk)
    make_driver()
    assert read(disk) == "hello"


@pytest.mark.parametrize("how", ["suspend", "pause"])
def test_a_frozen_server_keeps_its_disk(driver, boot, how):
    flavor = samples.flavor(
        ephemeral_gb=1, extra_specs={"docker:isolation": isolation.SHARED}
    )
    server = boot(flavor=flavor, block_device_info=INFO)
    write(server)
    if how == "suspend":
        driver.suspend(None, server.instance)
        driver.resume(None, server.instance, server.network_info, INFO)
    else:
        driver.pause(server.instance)
        driver.unpause(server.instance)
    assert read(server) == "hello"


def test_a_rebuilt_server_has_a_new_disk(driver, disk, image, files, left):
    write(disk)
    before = probe(files / disk.instance.uuid / "vdb")
    arguments = (disk.instance, image(), [], None, {})
    with pytest.raises(NotImplementedError):
        driver.rebuild(
            samples.request_context(),
            *arguments,
            *(None, None, None),
            network_info=disk.network_info,
            block_device_info=INFO,
        )
    delete(driver, disk)
    assert left() == []
    driver.spawn(samples.request_context(), *arguments, disk.network_info, INFO)
    assert read(disk) == "\0" * 5
    assert probe(files / disk.instance.uuid / "vdb")["UUID"] != before["UUID"]


def test_a_rescued_server_has_its_disk(driver, disk, image, mocker):
    write(disk)
    driver.power_off(disk.instance, 0)
    driver.rescue(
        samples.request_context(),
        disk.instance,
        disk.network_info,
        image(files={"tool": b""}),
        "password",
        INFO,
        objects.ShareMappingList(),
    )
    disk.instance.vm_state = vm_states.RESCUED
    assert read(disk) == "hello"
    mocker.patch.object(
        objects.Instance, "get_network_info", return_value=disk.network_info
    )
    driver.unrescue(None, disk.instance)
    assert read(disk) == "hello"


def test_a_resize_keeps_the_disk_beside_a_volume(driver, boot, tmp_path, soon):
    flavor = samples.flavor(ephemeral_gb=1)
    with loops.made(tmp_path / "volume") as volume:
        info = loops.info(
            volume.mapping("/dev/vdc"), ephemerals=[loops.ephemeral("/dev/vdb")]
        )
        server = boot(flavor=flavor, block_device_info=info)
        write(server)
        write(server, "other", 0, "/dev/vdc")
        larger = samples.flavor(ephemeral_gb=1, memory_mb=128)
        nics = server.network_info
        driver.migrate_disk_and_power_off(
            None, server.instance, CONF.my_ip, larger, nics, info
        )
        driver.finish_migration(
            *(None, samples.migration(), server.instance, "", nics, None, True, None),
            block_device_info=info,
        )
        assert (read(server), read(server, 0, "/dev/vdc")) == ("hello", "other")
        driver.destroy(None, server.instance, nics, info)


@pytest.mark.parametrize("size", [0, 2])
def test_a_resize_of_the_disk_is_refused(driver, disk, flavor, size):
    write(disk)
    other = samples.flavor(ephemeral_gb=size, extra_specs=flavor.extra_specs)
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        driver.migrate_disk_and_power_off(
            None, disk.instance, CONF.my_ip, other, disk.network_info, INFO
        )
    assert isinstance(refused.value.inner_exception, exception.ResizeError)
    assert read(disk) == "hello"


def test_a_deleted_server_leaves_no_disk(driver, disk, left):
    assert left()
    # Nova passes the disks; its clean-up after a failure may not.
    driver.destroy(None, disk.instance, disk.network_info)
    assert left() == []


@pytest.mark.parametrize(
    "info", [INFO, loops.info(ephemerals=[loops.ephemeral(size=1 << 20)])]
)
def test_a_boot_that_fails_leaves_no_disk(boot, image, left, info):
    broken = image(config={"Cmd": ["/no/such/program"]})
    with pytest.raises(exception.NovaException):
        boot(broken, block_device_info=info)
    assert left() == []


def test_a_second_boot_does_not_touch_the_disk(driver, disk, image):
    write(disk)
    with pytest.raises(exception.InstanceExists):
        driver.spawn(
            samples.request_context(),
            *(disk.instance, image(), [], None, {}),
            disk.network_info,
            INFO,
        )
    assert read(disk) == "hello"


def test_gvisor_has_no_disks(driver, image):
    flavor = samples.flavor(extra_specs={"docker:isolation": isolation.GVISOR})
    with pytest.raises(exception.InvalidInput):
        driver.spawn(
            samples.request_context(),
            samples.instance(flavor=flavor),
            *(image(), [], None, {}),
            samples.nics(),
            INFO,
        )


def test_hosts_without_hot_devices_have_disks(boot, monkeypatch):
    """They are given at the start, as with cgroup v2."""
    monkeypatch.setattr(cgroup, "why_no_hot_devices", lambda info: "cgroup v2")
    server = boot(block_device_info=INFO)
    write(server)
    assert read(server) == "hello"


@pytest.fixture
def small_host(tmp_path, driver):
    """A host whose disk for Nova's files has 2 GiB."""
    image, state = tmp_path / "image", tmp_path / "state"
    image.touch()
    state.mkdir()
    subprocess.run(["truncate", "--size=2G", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, state], check=True)
    before = CONF.state_path
    CONF.set_override("state_path", str(state))
    yield state
    CONF.set_override("state_path", before)
    subprocess.run(["umount", state], check=True)


def test_a_full_disk_of_the_host_ends_writing_and_nothing_else(
    small_host, driver, boot
):
    server = boot(block_device_info=INFO)
    free = subprocess.run(
        ["stat", "--file-system", "--format=%a*%S", small_host],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    blocks, size = map(int, free.split("*"))
    rest = str(blocks * size - (16 << 20))
    filling = small_host / "filling"
    subprocess.run(["fallocate", "--length", rest, filling], check=True)
    with pytest.raises(subprocess.CalledProcessError):
        server.run("dd if=/dev/zero of=/dev/vdb bs=1M seek=100 count=64 conv=fsync")
    assert server.run("echo works") == "works\n"
    with pytest.raises(exception.InstanceDeployFailure, match="do not fit the host"):
        boot(block_device_info=INFO)
    filling.unlink()
    write(server)
    driver.destroy(None, server.instance, server.network_info, INFO)
    assert list((small_host / "docker-ephemeral-disks").iterdir()) == []
    assert loops.below(small_host) == set()


class Killed(BaseException):
    """nova-compute ends here: nothing is rolled back."""


STEPS = (
    (devices, ("record", "forget")),
    (privileged_loops, ("attach", "detach")),
    (processutils, ("execute",)),
    (pathlib.Path, ("rename", "mkdir", "touch")),
    (shutil, ("rmtree",)),
)


@pytest.fixture
def kill(monkeypatch):
    """Lets nova-compute end before or after its n-th step with disks in a verb."""

    def at(number, when, verb, *arguments, **more):
        count = itertools.count(1)

        def killing(call):
            def wrapped(*args, **values):
                reached = next(count) == number
                if reached and when == "before":
                    raise Killed
                try:
                    return call(*args, **values)
                finally:
                    if reached:
                        raise Killed

            return wrapped

        with monkeypatch.context() as patch:
            for owner, names in STEPS:
                for name in names:
                    patch.setattr(owner, name, killing(getattr(owner, name)))
            try:
                verb(*arguments, **more)
            except Killed:
                return True
        return False

    return at


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_boot_that_was_cut_short_leaves_no_disk(
    driver, make_driver, image, left, kill, when
):
    for number in range(1, 9):
        assert kill(
            *(number, when, driver.spawn, samples.request_context()),
            *(samples.instance(), image(), [], None, {}, samples.nics()),
            block_device_info=INFO,
        )
        make_driver()
        assert left() == [], number


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_deletion_that_was_cut_short_is_completed(
    driver, make_driver, boot, left, kill, when
):
    numbers = []
    for number in itertools.count(1):
        server = boot(block_device_info=INFO)
        arguments = (None, server.instance, server.network_info, INFO)
        if not kill(number, when, driver.destroy, *arguments):
            break
        numbers.append(number)
        # Nova deletes it again, and if it takes the server for deleted, it does not.
        if number % 2:
            driver.destroy(*arguments)
        make_driver()
        assert left() == [], number
    # The record, the loop device and the files, at least
    assert len(numbers) >= 3


def test_a_server_that_is_swept_away_is_named(driver, files, caplog):
    (files / samples.uuid()).mkdir(parents=True)
    driver.init_host("test-host")
    assert re.search(r"Removing \S+/docker-ephemeral-disks/\S+, which no", caplog.text)
