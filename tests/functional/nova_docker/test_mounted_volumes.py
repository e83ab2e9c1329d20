# SPDX-License-Identifier: Apache-2.0
"""Volumes whose file systems the host mounts, on a real engine with loop devices."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
from nova import exception
from nova import objects
from nova.compute import vm_states

from nova_docker.container import isolation
from nova_docker.container import volume_mode
from nova_docker.driver import CONF
from nova_docker.privsep import filesystems
from tests import samples
from tests.functional import loops
from tests.functional.host import eventually

LEVELS = (isolation.USER, isolation.SHARED)
MIB = 64  # of a volume
XFS_MIB = 320
MARK = filesystems._MARK

# Has a copy of a server's mounts, which does not lose what is unmounted elsewhere
HOLDER = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
namespace = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
assert libc.setns(namespace, 0x20000) == 0
assert libc.unshare(0x20000) == 0
assert libc.mount(None, b"/", None, 0x4000 | 1 << 18, None) == 0
print("ready", flush=True)
sys.stdin.read()
"""


def flavor_of(level, mode="filesystem", **values):
    specs = {"docker:isolation": level, "docker:volume_mode": mode}
    return samples.flavor(extra_specs=specs, **values)


@pytest.fixture(params=LEVELS)
def flavor(request):
    return flavor_of(request.param)


@pytest.fixture
def make_volume():
    """Makes a blank volume, which exists longer than the servers of the test."""
    with loops.in_memory() as directory, contextlib.ExitStack() as made:

        def make(mib=MIB):
            return made.enter_context(loops.made(directory / samples.uuid(), mib=mib))

        yield make


@pytest.fixture
def boot(make_volume, boot, configure):
    configure("mount_volumes", True)
    return lambda *words, **values: boot(
        *words, **{"flavor": flavor_of(isolation.USER)} | values
    )


@pytest.fixture
def volume(make_volume):
    return make_volume()


@pytest.fixture(autouse=True)
def nothing_is_mounted(nothing_is_left):
    yield
    assert not filesystems.DIRECTORY.exists()


def attach(driver, server, volume, mountpoint="/dev/vdb", **data):
    connection_info = volume.connection_info(**data)
    driver.attach_volume(None, connection_info, server.instance, mountpoint)
    return connection_info


def detach(driver, server, volume, mountpoint="/dev/vdb"):
    driver.detach_volume(None, volume.connection_info(), server.instance, mountpoint)


def write(server, text, path="/mnt/vdb/file"):
    server.run(f"echo {text} > {path}")


def read(server, path="/mnt/vdb/file"):
    return server.run(f"cat {path}").strip()


def has(server, path="/mnt/vdb"):
    return bool(server.run(f"grep ' {path} ' /proc/mounts || :"))


def test_a_running_server_gets_a_blank_volume_formatted(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    pid = server.pid
    attach(driver, server, volume)
    write(server, "hello")
    device, _, kind, flags, *_ = server.run("grep /mnt/vdb /proc/mounts").split()
    assert (device, kind) == (volume.path, "ext4")
    assert {"rw", "nosuid", "nodev", "errors=remount-ro"} <= set(flags.split(","))
    assert server.run("ls -ldn /mnt/vdb /mnt/vdb/file | awk '{print $3,$4}'") == (
        "0 0\n0 0\n"
    )
    # Only the mount in the server is in its way.
    assert not server.run("ls /dev | grep vdb || :")
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()
    assert server.pid == pid
    # Data is not formatted again.
    attach(driver, server, volume, "/dev/vdc")
    assert read(server, "/mnt/vdc/file") == "hello"


def test_attaching_again_changes_nothing(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    for _ in range(3):
        attach(driver, server, volume)
    assert len(server.run("grep /mnt/vdb /proc/mounts").splitlines()) == 1
    detach(driver, server, volume)
    assert not has(server)


def test_data_moves_between_servers_of_all_levels(driver, boot, volume):
    """The ids on the disk are those that the servers see."""
    servers = [boot(flavor=flavor_of(level)) for level in (*LEVELS, isolation.USER)]
    for number, server in enumerate(servers):
        attach(driver, server, volume)
        if number:
            assert read(server) == str(number - 1)
        server.run("chown 1000:1000 /mnt/vdb/file 2>/dev/null || :")
        write(server, number)
        server.run("chown 1000:1000 /mnt/vdb/file")
        assert server.run("ls -ln /mnt/vdb/file").split()[2:4] == ["1000", "1000"]
        detach(driver, server, volume)
        assert volume.is_free()


def test_a_volume_is_there_before_the_first_process(boot, image, flavor, volume):
    command = "echo early > /mnt/vdb/file && sleep 1000"
    server = boot(
        image(config={"Cmd": ["sh", "-c", command]}),
        flavor=flavor,
        block_device_info=loops.info(volume.mapping("/dev/vdb")),
    )
    assert eventually(lambda: read(server) == "early")
    flags = server.run("grep /mnt/vdb /proc/mounts").split()[3].split(",")
    assert {"rw", "nosuid", "nodev"} <= set(flags)


def test_a_volume_of_the_boot_is_detached_while_the_server_runs(
    driver, boot, flavor, volume
):
    bdi = loops.info(volume.mapping("/dev/vdb"))
    server = boot(flavor=flavor, block_device_info=bdi)
    write(server, "hello")
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()


@pytest.mark.parametrize("how", ["SOFT", "HARD", "engine", "docker", "power"])
def test_a_volume_survives_a_restart(driver, boot, flavor, volume, soon, how):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    loops.restart(driver, server, loops.info(volume.mapping("/dev/vdb")), how)
    assert read(server) == "hello"
    write(server, "again")
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()


def test_a_restart_of_the_host_mounts_the_volume_again(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    driver.power_off(server.instance, 0)
    # /run is empty then.
    filesystems.unmount(server.name, "vdb")
    bdi = loops.info(volume.mapping("/dev/vdb"))
    driver.resume_state_on_host_boot(
        None, server.instance, server.network_info, None, bdi
    )
    assert read(server) == "hello"


def test_a_stopped_server_gets_and_loses_volumes(
    driver, boot, flavor, volume, make_volume
):
    server, other = boot(flavor=flavor), make_volume()
    attach(driver, server, volume)
    driver.power_off(server.instance, 0)
    attach(driver, server, other, "/dev/vdc")
    detach(driver, server, volume)
    assert volume.is_free()
    driver.power_on(None, server.instance, server.network_info)
    write(server, "hello", "/mnt/vdc/file")
    assert not has(server)


@pytest.mark.parametrize(
    "use",
    [
        "sleep 1000 3</mnt/vdb/file",
        "cd /mnt/vdb; sleep 1000",
        "cp /bin/busybox /mnt/vdb/sleep; /mnt/vdb/sleep 1000",
    ],
)
def test_a_volume_in_use_is_not_detached(driver, boot, flavor, volume, use):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    server.run(f"({use}) >/dev/null 2>&1 & sleep 0.2")
    with pytest.raises(exception.DeviceDetachFailed, match=r"\d+ \((sleep|sh)\)"):
        detach(driver, server, volume)
    write(server, "still")
    server.run("busybox killall sleep")

    def is_detached():
        with contextlib.suppress(exception.DeviceDetachFailed):
            detach(driver, server, volume)
        return not has(server)

    assert eventually(is_detached)
    assert volume.is_free()


def test_what_the_host_uses_is_not_detached(driver, boot, volume):
    server = boot()
    attach(driver, server, volume)
    fd = os.open(filesystems.DIRECTORY / server.name / "vdb", os.O_RDONLY)
    try:
        with pytest.raises(exception.DeviceDetachFailed, match="busy"):
            detach(driver, server, volume)
    finally:
        os.close(fd)
    detach(driver, server, volume)
    assert volume.is_free()


def test_a_copy_in_another_namespace_keeps_the_volume(driver, boot, volume):
    """Nobody disconnects a volume that the kernel may still write."""
    server = boot()
    attach(driver, server, volume)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(server.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        with pytest.raises(exception.DeviceDetachFailed, match="still has"):
            detach(driver, server, volume)
        assert filesystems.recorded(server.name) == {"vdb": volume.number}
    finally:
        holder.communicate()
    detach(driver, server, volume)
    assert volume.is_free()


@pytest.mark.parametrize("kind", ["ext2", "ext3", "xfs"])
@pytest.mark.skipif(not shutil.which("mkfs.xfs"), reason="xfsprogs is not installed")
def test_the_file_system_of_a_user_is_mounted(driver, boot, flavor, make_volume, kind):
    volume = make_volume(XFS_MIB)
    volume.make_file_system(kind)
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    expected = "xfs" if kind == "xfs" else "ext4"
    assert server.run("grep /mnt/vdb /proc/mounts").split()[2] == expected
    detach(driver, server, volume)
    assert volume.is_free()


@pytest.mark.skipif(not shutil.which("mkfs.xfs"), reason="xfsprogs is not installed")
def test_a_file_system_grows_with_its_volume(driver, boot, flavor, make_volume):
    volume = make_volume(XFS_MIB)
    volume.make_file_system("xfs")
    server = boot(flavor=flavor)
    connection_info = attach(driver, server, volume)

    def size():
        return int(server.run("busybox df -m /mnt/vdb | tail -n 1").split()[1])

    before = size()
    volume.grow(2 * XFS_MIB)
    driver.extend_volume(None, connection_info, server.instance, 0)
    assert size() > before + XFS_MIB // 2
    # While it was attached to nothing
    detach(driver, server, volume)
    volume.grow(3 * XFS_MIB)
    attach(driver, server, volume)
    assert size() > before + 3 * XFS_MIB // 2


def test_a_read_only_volume_cannot_be_written(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    with pytest.raises(exception.VolumeAttachFailed, match="blank, and read-only"):
        attach(driver, server, volume, access_mode="ro")
    volume.make_file_system()
    before = volume.file.read_bytes()
    attach(driver, server, volume, access_mode="ro")
    with pytest.raises(subprocess.CalledProcessError):
        write(server, "hello")
    loops.restart(
        driver,
        server,
        loops.info(volume.mapping("/dev/vdb", access_mode="ro")),
        "HARD",
    )
    with pytest.raises(subprocess.CalledProcessError):
        write(server, "hello")
    detach(driver, server, volume)
    assert volume.file.read_bytes() == before


def test_a_volume_of_several_servers_is_refused(driver, boot, volume):
    server = boot()
    info = volume.connection_info() | {"multiattach": True}
    with pytest.raises(exception.InvalidInput, match="several servers"):
        driver.attach_volume(None, info, server.instance, "/dev/vdb")
    other = boot(flavor=flavor_of(isolation.USER, "device"))
    attach(driver, other, volume)
    with pytest.raises(exception.VolumeAttachFailed, match="has the volume"):
        attach(driver, server, volume)


def test_a_host_that_mounts_nothing_refuses(driver, boot, flavor, volume, configure):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    configure("mount_volumes", False)
    with pytest.raises(exception.InvalidInput, match="mount_volumes"):
        boot(flavor=flavor)
    with pytest.raises(exception.InvalidInput, match="mount_volumes"):
        attach(driver, server, volume, "/dev/vdc")
    # Until its next start
    write(server, "hello")
    with pytest.raises(exception.VolumeAttachFailed, match="mount_volumes"):
        driver.reboot(
            None,
            server.instance,
            server.network_info,
            "HARD",
            loops.info(volume.mapping("/dev/vdb")),
        )
    detach(driver, server, volume)
    assert volume.is_free()


def test_a_swap_is_refused(driver, boot, volume, make_volume):
    server = boot()
    old = attach(driver, server, volume)
    write(server, "hello")
    new = make_volume().connection_info()
    with pytest.raises(exception.VolumeRebaseFailed, match="detach it"):
        driver.swap_volume(None, old, new, server.instance, "/dev/vdb", 0)
    assert read(server) == "hello"


def test_a_resize_takes_volumes_away_until_it_is_finished(driver, boot, volume, soon):
    server = boot()
    attach(driver, server, volume)
    write(server, "hello")
    bdi = loops.info(volume.mapping("/dev/vdb"))
    other = flavor_of(isolation.USER, "device", memory_mb=128)
    resize = (None, server.instance, CONF.my_ip)
    with pytest.raises(exception.InstanceFaultRollback, match="volume_mode"):
        driver.migrate_disk_and_power_off(*resize, other, server.network_info, bdi)
    flavor = flavor_of(isolation.USER, memory_mb=128)
    driver.migrate_disk_and_power_off(*resize, flavor, server.network_info, bdi)
    assert volume.is_free()
    driver.finish_migration(
        *(
            None,
            samples.migration(),
            server.instance,
            "",
            server.network_info,
            None,
            True,
            None,
        ),
        block_device_info=bdi,
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
    assert server.run("ls /tool")
    assert read(server) == "hello"
    labels = server.inspect()["Config"]["Labels"]
    assert volume_mode.of_container(labels) == volume_mode.FILE_SYSTEM
    mocker.patch.object(
        objects.Instance, "get_network_info", return_value=server.network_info
    )
    driver.unrescue(None, server.instance)
    assert read(server) == "hello"


def test_the_image_may_request_it_if_the_flavor_does_not(boot, image, volume):
    wanting = image()
    server = boot(
        wanting,
        flavor=samples.flavor(),
        image_ref=wanting.id,
        system_metadata={"image_docker_volume_mode": "filesystem"},
        block_device_info=loops.info(volume.mapping("/dev/vdb")),
    )
    write(server, "hello")
    other = boot(
        wanting,
        flavor=flavor_of(isolation.USER, "device"),
        image_ref=wanting.id,
        system_metadata={"image_docker_volume_mode": "filesystem"},
    )
    labels = other.inspect()["Config"]["Labels"]
    assert labels[volume_mode.LABEL] == "device"


def test_a_read_only_root_has_room_for_a_volume_at_a_start(driver, boot, volume):
    flavor = flavor_of(isolation.USER)
    flavor.extra_specs["docker:read_only"] = "true"
    server = boot(flavor=flavor)
    with pytest.raises(exception.VolumeAttachFailed, match="Read-only"):
        attach(driver, server, volume)
    driver.power_off(server.instance, 0)
    attach(driver, server, volume)
    driver.power_on(None, server.instance, server.network_info)
    write(server, "hello")


def test_an_ephemeral_disk_is_mounted_as_well(driver, boot, flavor, soon):
    flavor.ephemeral_gb = 1
    bdi = loops.info(ephemerals=[loops.ephemeral()])
    server = boot(flavor=flavor, block_device_info=bdi)
    write(server, "hello")
    loops.restart(driver, server, bdi, "HARD")
    assert read(server) == "hello"
    with pytest.raises(exception.InvalidInput, match="vfat cannot be mounted"):
        boot(
            flavor=flavor,
            block_device_info=loops.info(
                ephemerals=[loops.ephemeral(guest_format="vfat")]
            ),
        )


def test_a_server_in_gvisor_has_a_volume(driver, boot, volume, make_volume, soon):
    bdi = loops.info(volume.mapping("/dev/vdb"))
    server = boot(flavor=flavor_of(isolation.GVISOR), block_device_info=bdi)
    write(server, "hello")
    with pytest.raises(exception.VolumeAttachFailed, match="stop the server"):
        attach(driver, server, make_volume(), "/dev/vdc")
    with pytest.raises(exception.DeviceDetachFailed, match="stop the server"):
        detach(driver, server, volume)
    loops.restart(driver, server, bdi, "HARD")
    assert read(server) == "hello"
    # It was started after the volume was mounted, and does not keep it.
    other = boot()
    attach(driver, other, one := make_volume())
    again = boot(flavor=flavor_of(isolation.GVISOR))
    detach(driver, other, one)
    assert one.is_free()
    assert again.run("echo runs") == "runs\n"
    driver.power_off(server.instance, 0)
    detach(driver, server, volume)
    assert volume.is_free()


def test_a_server_with_two_volumes(driver, boot, volume, make_volume):
    other = make_volume()
    server = boot(
        block_device_info=loops.info(
            volume.mapping("/dev/vdb"), other.mapping("/dev/vdc")
        )
    )
    write(server, "first")
    write(server, "other", "/mnt/vdc/file")
    [one] = driver.get_all_volume_usage(
        None,
        [
            {
                "instance": server.instance,
                "instance_bdms": [
                    objects.BlockDeviceMapping(
                        device_name="/dev/vdb", volume_id=volume.id
                    )
                ],
            }
        ],
    )
    assert one["wr_bytes"] > 0


def test_a_volume_whose_storage_vanishes_can_be_detached(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    write(server, "hello")
    server.run("sleep 1000 3</mnt/vdb/file >/dev/null 2>&1 &")
    # Each access to the device fails from now on.
    os.truncate(volume.file, 0)
    loops.losetup("--set-capacity", volume.path)
    with contextlib.suppress(subprocess.CalledProcessError):
        write(server, "lost", "/mnt/vdb/other")
    with pytest.raises(exception.DeviceDetachFailed, match="sleep"):
        detach(driver, server, volume)
    server.run("busybox killall sleep; sleep 0.2")
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()
    server.run("true")


def test_a_server_that_is_deleted_leaves_nothing(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    server.run("cd /mnt/vdb; sleep 1000 >/dev/null 2>&1 & :")
    bdi = loops.info(volume.mapping("/dev/vdb"))
    driver.destroy(None, server.instance, server.network_info, bdi)
    assert filesystems.recorded(server.name) == {}
    assert volume.is_free()


class Killed(BaseException):
    """nova-compute ends here: nothing is rolled back."""


STEPS = ("look", "make", "unmark", "mount", "unmount", "insert", "remove")


@pytest.fixture
def kill(monkeypatch):
    """Lets nova-compute end after its n-th privileged call."""

    def at(number, verb, *arguments):
        """Return whether it was killed."""
        count = itertools.count(1)

        def killing(call):
            def wrapped(*arguments, **more):
                result = call(*arguments, **more)
                if next(count) == number:
                    raise Killed
                return result

            return wrapped

        with monkeypatch.context() as patch:
            for name in STEPS:
                patch.setattr(filesystems, name, killing(getattr(filesystems, name)))
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
    # look, make, look, mount, insert
    assert kill(step, attach, driver, server, volume)
    if after == "again":
        attach(driver, server, volume)
        write(server, "hello")
    elif after == "start":
        bdi = loops.info(volume.mapping("/dev/vdb"))
        loops.restart(driver, server, bdi, "HARD")
        write(server, "hello")
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()


@pytest.mark.parametrize("step", [1, 2])
def test_a_detachment_that_was_cut_short_can_be_repeated(
    driver, boot, volume, make_volume, kill, step
):
    server = boot()
    attach(driver, server, volume)
    write(server, "hello")
    assert kill(step, detach, driver, server, volume)
    detach(driver, server, volume)
    assert not has(server)
    assert volume.is_free()
    attach(driver, server, make_volume())
    write(server, "other")


@pytest.mark.parametrize("after", ["mark", "half", "unmark"])
def test_formatting_that_was_cut_short_is_repeated(
    driver, boot, volume, monkeypatch, after
):
    """At worst the volume has half a file system, of which nobody has anything."""
    server = boot()
    run = filesystems.programs.run

    def cut(program, *arguments, **more):
        if program == "mkfs.ext4":
            if after == "unmark":
                run(program, *arguments, **more)
            if after == "half":
                volume.write(3 << 20, b"half a file system")
                volume.write(8192, b"half a file system")
            raise Killed
        return run(program, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(filesystems.programs, "run", cut)
        with pytest.raises(Killed):
            attach(driver, server, volume)
    assert MARK in volume.file.read_bytes()
    attach(driver, server, volume)
    write(server, "hello")
    assert MARK not in volume.file.read_bytes()
    detach(driver, server, volume)
    attach(driver, server, volume)
    assert read(server) == "hello"


def test_a_leftover_is_replaced(driver, boot, volume, make_volume):
    """Nova forgets an attachment that it has not recorded when it is killed."""
    server, other = boot(), make_volume()
    attach(driver, server, volume)
    attach(driver, server, other)
    write(server, "hello")
    assert filesystems.recorded(server.name) == {"vdb": other.number}
    assert volume.is_free()


def test_the_host_has_one_private_place_for_mounts(driver, boot, volume):
    server = boot()
    attach(driver, server, volume)
    assert filesystems.DIRECTORY.stat().st_mode & 0o777 == 0o700
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    [found] = [line for line in lines if f"/{server.name}/vdb" in line]
    assert {"nosuid", "nodev"} <= set(found.split()[5].split(","))


def test_a_volume_of_which_somebody_has_cleared_the_beginning_is_not_blank(
    nothing_is_left, volume
):
    assert filesystems.look(volume.path)["blank"]
    volume.make_file_system()
    with open(volume.path, "r+b") as device:
        device.write(bytes(1 << 20))
    found = filesystems.look(volume.path)
    assert found["nothing"] and not found["blank"]


def test_a_signature_is_looked_for_once_more_before_the_format(nothing_is_left, volume):
    volume.make_file_system()
    before = volume.file.read_bytes()
    with pytest.raises(FileExistsError):
        filesystems.make(volume.path, bytes(16))
    assert volume.file.read_bytes() == before
