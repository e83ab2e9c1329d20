# SPDX-License-Identifier: Apache-2.0
"""Volumes on a real engine, with loop devices through os-brick's local connector."""

from __future__ import annotations

import contextlib
import itertools
import re
import subprocess

import pytest
from nova import exception
from nova import objects
from nova.compute import vm_states
from os_brick.initiator.connector import InitiatorConnector

from nova_docker import config_drive
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.driver import CONF
from nova_docker.privsep import devices
from nova_docker.privsep import loops as privileged_loops
from tests import samples
from tests.functional import loops
from tests.functional.conftest import CONFIG_DRIVE
from tests.functional.host import eventually
from tests.unit.nova_docker import fake_volumes

LEVELS = (isolation.USER, isolation.SHARED)


@pytest.fixture(params=LEVELS)
def flavor(request):
    return samples.flavor(extra_specs={"docker:isolation": request.param})


@pytest.fixture
def volume(tmp_path):
    with loops.made(tmp_path / "volume") as volume:
        yield volume


@pytest.fixture
def other(tmp_path):
    with loops.made(tmp_path / "other") as volume:
        yield volume


def attach(driver, server, volume, mountpoint="/dev/vdb", **data):
    connection_info = volume.connection_info(**data)
    driver.attach_volume(None, connection_info, server.instance, mountpoint)
    return connection_info


def detach(driver, server, volume, mountpoint="/dev/vdb"):
    driver.detach_volume(None, volume.connection_info(), server.instance, mountpoint)


def write(server, text, device="/dev/vdb"):
    server.run(f"printf {text} | dd of={device} conv=fsync,notrunc")


def read(server, device="/dev/vdb"):
    return server.run(f"dd if={device} bs=5 count=1")


def has(server, device="/dev/vdb"):
    return bool(server.run(f"test -e {device} && echo yes || :"))


def test_a_running_server_gets_a_volume_and_loses_it(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    pid = server.pid
    connection_info = attach(driver, server, volume)
    write(server, "hello")
    assert volume.read() == b"hello"
    driver.detach_volume(None, connection_info, server.instance, "/dev/vdb")
    assert not has(server)
    assert server.pid == pid


def test_no_device_can_be_opened_on_a_read_only_mount(boot, flavor, monkeypatch):
    monkeypatch.setattr(config_drive, "_contents", lambda *args: CONFIG_DRIVE)
    server = boot(flavor=flavor, config_drive="True")
    flags = server.run("grep /seed/config_drive /proc/mounts").split()[3].split(",")
    assert {"ro", "nodev"} <= set(flags)


def test_data_moves_to_another_server(driver, boot, volume):
    first, second = boot(), boot()
    attach(driver, first, volume)
    write(first, "hello")
    detach(driver, first, volume)
    attach(driver, second, volume, "/dev/vdc")
    assert read(second, "/dev/vdc") == "hello"


def test_a_volume_is_there_before_the_first_process(boot, image, flavor, volume):
    volume.file.write_bytes(b"early" + volume.file.read_bytes()[5:])
    command = "dd if=/dev/vdb of=/seen bs=5 count=1 && sleep 1000"
    server = boot(
        image(config={"Cmd": ["sh", "-c", command]}),
        flavor=flavor,
        block_device_info=loops.info(volume.mapping("/dev/vdb")),
    )
    assert server.run("until test -s /seen; do :; done; cat /seen") == "early"


def test_a_boot_that_fails_leaves_no_volume_connected(boot, image, volume, mocker):
    disconnect = mocker.spy(InitiatorConnector, "factory")
    with pytest.raises(exception.NovaException):
        boot(
            image(config={"Cmd": ["/no/such/program"]}),
            block_device_info=loops.info(volume.mapping("/dev/vdb")),
        )
    # To connect, and to disconnect
    assert disconnect.call_count == 2
    assert devices.owners(volume.number) == []


@pytest.mark.parametrize("how", ["SOFT", "HARD", "engine", "docker", "power"])
def test_a_volume_survives_a_restart(driver, boot, flavor, volume, soon, how):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    loops.restart(driver, server, loops.info(volume.mapping("/dev/vdb")), how)
    assert read(server) == "hello"
    detach(driver, server, volume)
    assert not has(server)


def test_a_volume_may_have_another_number_at_each_start(
    driver, boot, flavor, tmp_path, volume
):
    attached = loops.info(volume.mapping("/dev/vdb"))
    server = boot(flavor=flavor, block_device_info=attached)
    driver.power_off(server.instance, 0)
    with loops.made(tmp_path / "new") as new:
        new.file.write_bytes(b"again" + new.file.read_bytes()[5:])
        driver.power_on(
            None,
            server.instance,
            server.network_info,
            loops.info(new.mapping("/dev/vdb")),
        )
        assert read(server) == "again"
        driver.power_off(server.instance, 0)
        driver.power_on(None, server.instance, server.network_info, loops.info())
        assert not has(server)


def test_the_range_of_ids_may_change_while_a_server_is_stopped(
    driver, boot, volume, nic
):
    """The record belongs to root of the host, and each start gives it to the server."""
    server = boot()
    attach(driver, server, volume)
    driver.power_off(server.instance, 0)
    driver._nics.release(server.instance.uuid)
    other = boot()
    driver.power_on(None, server.instance, server.network_info)
    write(server, "hello")
    assert not has(other)


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_a_server_that_does_not_run_gets_and_loses_volumes(
    driver, boot, flavor, volume, other, state
):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    if state == "paused":
        driver.pause(server.instance)
    else:
        driver.power_off(server.instance, 0)
    attach(driver, server, other, "/dev/vdc")
    detach(driver, server, volume)
    if state == "paused":
        driver.unpause(server.instance)
    else:
        driver.power_on(None, server.instance, server.network_info)
    write(server, "hello", "/dev/vdc")
    assert not has(server)


def test_a_volume_in_use_is_not_detached(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    server.run("sleep 1000 3</dev/vdb & echo $!")
    with pytest.raises(exception.DeviceDetachFailed, match=r"\d+ \(sleep\)"):
        detach(driver, server, volume)
    write(server, "still")
    server.run("busybox killall sleep")

    def is_detached():
        # The kernel closes the files of a process some time after it was killed.
        with contextlib.suppress(exception.DeviceDetachFailed):
            detach(driver, server, volume)
        return not has(server)

    assert eventually(is_detached)


def test_a_server_sees_that_a_volume_has_grown(driver, boot, volume):
    server = boot()
    connection_info = attach(driver, server, volume)
    volume.grow(16)
    driver.extend_volume(None, connection_info, server.instance, 16 * loops.MIB)
    assert server.run("busybox blockdev --getsize64 /dev/vdb").strip() == "16777216"


def test_a_volume_is_swapped_for_a_copy(driver, boot, flavor, volume, other):
    server = boot(flavor=flavor)
    old = attach(driver, server, volume)
    write(server, "hello")
    new = other.connection_info()
    driver.swap_volume(None, old, new, server.instance, "/dev/vdb", 0)
    assert other.read() == b"hello"
    write(server, "after")
    assert (volume.read(), other.read()) == (b"hello", b"after")
    assert devices.owners(volume.number) == []


def test_a_swap_that_fails_leaves_the_old_volume(driver, boot, tmp_path, volume):
    server = boot()
    old = attach(driver, server, volume)
    write(server, "hello")
    with loops.made(tmp_path / "small", mib=1) as small:
        with pytest.raises(exception.VolumeRebaseFailed):
            driver.swap_volume(
                None, old, small.connection_info(), server.instance, "/dev/vdb", 0
            )
        assert devices.owners(small.number) == []
    assert read(server) == "hello"


def test_two_servers_share_a_volume(driver, boot, volume, mocker):
    first, second = boot(), boot()
    for server in first, second:
        attach(driver, server, volume)
    write(first, "hello")
    assert read(second) == "hello"
    disconnect = mocker.patch("nova_docker.volume.connections.disconnect")
    detach(driver, first, volume)
    disconnect.assert_not_called()
    write(second, "after")
    detach(driver, second, volume)
    disconnect.assert_called_once()


@pytest.mark.parametrize("hot", [True, False])
def test_a_read_only_volume_cannot_be_written(driver, boot, flavor, volume, hot):
    if hot:
        server = boot(flavor=flavor)
        attach(driver, server, volume, access_mode="ro")
    else:
        mapping = volume.mapping("/dev/vdb", access_mode="ro")
        server = boot(flavor=flavor, block_device_info=loops.info(mapping))
    read(server)
    with pytest.raises(subprocess.CalledProcessError):
        write(server, "hello")


def test_a_resize_takes_volumes_away_until_it_is_finished(driver, boot, volume, soon):
    """Nova ends the attachments in Cinder meanwhile."""
    server = boot()
    attach(driver, server, volume)
    write(server, "hello")
    bdi = loops.info(volume.mapping("/dev/vdb"))
    flavor = samples.flavor(memory_mb=128)
    driver.migrate_disk_and_power_off(
        None, server.instance, CONF.my_ip, flavor, server.network_info, bdi
    )
    assert devices.owners(volume.number) == []
    driver.finish_migration(
        *(None, samples.migration(), server.instance, "", server.network_info),
        *(None, True, None),
        block_device_info=bdi,
    )
    assert read(server) == "hello"
    # The user reverts it.
    driver.destroy(None, server.instance, server.network_info, bdi, False)
    assert devices.owners(volume.number) == []
    driver.finish_revert_migration(
        None, server.instance, server.network_info, None, bdi
    )
    assert read(server) == "hello"


def test_a_rescued_server_has_its_volumes(driver, boot, image, volume, mocker):
    server = boot()
    attach(driver, server, volume)
    write(server, "hello")
    driver.power_off(server.instance, 0)
    driver.rescue(
        samples.request_context(),
        server.instance,
        server.network_info,
        image(files={"tool": b""}),
        "password",
        loops.info(volume.mapping("/dev/vdb")),
        objects.ShareMappingList(),
    )
    server.instance.vm_state = vm_states.RESCUED
    assert has(server, "/tool")
    assert read(server) == "hello"
    mocker.patch.object(
        objects.Instance, "get_network_info", return_value=server.network_info
    )
    driver.unrescue(None, server.instance)
    assert not has(server, "/tool")
    assert read(server) == "hello"


def test_a_server_has_many_volumes(driver, boot, tmp_path, volume, other):
    server = boot(
        block_device_info=loops.info(
            volume.mapping("/dev/vdb"), other.mapping("/dev/vdc")
        )
    )
    write(server, "first")
    write(server, "other", "/dev/vdc")
    assert (volume.read(), other.read()) == (b"first", b"other")
    [one, two] = driver.get_all_volume_usage(
        None,
        [
            {
                "instance": server.instance,
                "instance_bdms": [
                    objects.BlockDeviceMapping(device_name=name, volume_id=found.id)
                    for name, found in (("/dev/vdb", volume), ("/dev/vdc", other))
                ],
            }
        ],
    )
    assert {one["volume"], two["volume"]} == {volume.id, other.id}
    assert one["wr_bytes"] > 0


class Killed(BaseException):
    """nova-compute ends here: nothing is rolled back."""


PRIVILEGED = ("record", "forget", "recorded", "owners", "insert", "remove")


@pytest.fixture
def kill(monkeypatch):
    """Lets nova-compute end after its n-th privileged call."""

    def after(number):
        count = itertools.count(1)
        with monkeypatch.context() as patch:
            for name in PRIVILEGED:
                patch.setattr(devices, name, killing(getattr(devices, name), count))
            yield

    def killing(call, count):
        def wrapped(*arguments, **more):
            result = call(*arguments, **more)
            if next(count) == after.number:
                raise Killed
            return result

        return wrapped

    def at(number, verb, *arguments):
        """Return whether it was killed."""
        after.number = number
        for _ in after(number):
            try:
                verb(*arguments)
            except Killed:
                return True
        return False

    return at


@pytest.mark.parametrize("step", range(1, 6))
@pytest.mark.parametrize("after", ["again", "detach", "start"])
def test_an_attachment_that_was_cut_short_can_be_repeated_or_undone(
    driver, boot, volume, kill, step, after
):
    server = boot()
    killed = kill(step, attach, driver, server, volume)
    assert killed == (step <= 3)
    if after == "again":
        attach(driver, server, volume)
        write(server, "hello")
    elif after == "start":
        driver.reboot(
            None,
            server.instance,
            server.network_info,
            "HARD",
            loops.info(volume.mapping("/dev/vdb")),
        )
        write(server, "hello")
    detach(driver, server, volume)
    assert not has(server)
    assert devices.owners(volume.number) == []


@pytest.mark.parametrize("step", range(1, 6))
def test_a_detachment_that_was_cut_short_can_be_repeated(
    driver, boot, volume, other, kill, step
):
    server = boot()
    attach(driver, server, volume)
    killed = kill(step, detach, driver, server, volume)
    assert killed == (step <= 4)
    detach(driver, server, volume)
    assert not has(server)
    attach(driver, server, other)
    write(server, "hello")


def test_a_leftover_is_replaced(driver, boot, volume, other):
    """Nova forgets an attachment that it has not recorded when it is killed."""
    server = boot()
    attach(driver, server, volume)
    attach(driver, server, other)
    write(server, "hello")
    assert other.read() == b"hello"
    assert devices.owners(volume.number) == []
    allowed = rules(server)
    assert f"b {other.number} rw" in allowed
    assert f"b {volume.number} rw" not in allowed


def rules(server):
    """Return the devices that a server may open."""
    with open(f"/proc/{server.pid}/cgroup") as lines:
        [path] = re.findall(r"devices:(.*)", lines.read())
    with open(f"/sys/fs/cgroup/devices{path}/devices.list") as listed:
        return listed.read().splitlines()


def test_a_file_becomes_a_device(driver, boot, tmp_path, monkeypatch):
    """As NFS does, for which os-brick returns the path of a file."""
    file = tmp_path / "share" / "volume"
    file.parent.mkdir()
    file.write_bytes(bytes(8 * loops.MIB))
    connector = fake_volumes.Connector(str(file))
    monkeypatch.setattr(InitiatorConnector, "factory", connector.factory)
    server = boot()
    connection_info = {
        "driver_volume_type": "nfs",
        "serial": samples.uuid(),
        "data": {"export": "192.0.2.1:/share", "name": "volume", "format": "raw"},
    }
    for _ in range(2):
        driver.attach_volume(None, connection_info, server.instance, "/dev/vdb")
    write(server, "hello")
    assert file.read_bytes()[:5] == b"hello"
    with file.open("r+b") as grown:
        grown.truncate(16 * loops.MIB)
    driver.extend_volume(None, connection_info, server.instance, 16 * loops.MIB)
    assert server.run("busybox blockdev --getsize64 /dev/vdb").strip() == "16777216"
    driver.detach_volume(None, connection_info, server.instance, "/dev/vdb")
    assert privileged_loops.of(str(file)) is None


def test_a_device_that_vanishes_does_not_keep_a_server_from_running(
    driver, boot, volume
):
    server = boot()
    attach(driver, server, volume)
    loops.losetup("--detach", volume.path)
    try:
        with pytest.raises(subprocess.CalledProcessError):
            write(server, "hello")
        driver.reboot(None, server.instance, server.network_info, "HARD")
        server.run("true")
        detach(driver, server, volume)
    finally:
        loops.losetup(volume.path, str(volume.file))


def test_what_is_in_the_way_is_left_alone(driver, boot, volume):
    server = boot()
    server.run("mkdir /dev/vdb")
    with pytest.raises(exception.VolumeAttachFailed, match="exists in the server"):
        attach(driver, server, volume)
    assert devices.owners(volume.number) == []
    assert f"b {volume.number} rw" not in rules(server)
    server.run("rmdir /dev/vdb")
    attach(driver, server, volume)


def test_a_server_in_gvisor_gets_none(driver, boot, volume, mocker):
    server = boot()
    mocker.patch.object(isolation, "of_container", return_value=isolation.GVISOR)
    with pytest.raises(exception.InvalidInput, match="gVisor"):
        attach(driver, server, volume)


def test_a_server_that_is_deleted_leaves_nothing(driver, boot, volume):
    server = boot()
    attach(driver, server, volume)
    server.run("sleep 1000 3</dev/vdb & :")
    bdi = loops.info(volume.mapping("/dev/vdb"))
    driver.destroy(None, server.instance, server.network_info, bdi)
    assert not devices.has_any(naming.name_of(server.instance.uuid))
