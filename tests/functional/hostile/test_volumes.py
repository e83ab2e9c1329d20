# SPDX-License-Identifier: Apache-2.0
"""Attacks on block devices by root of a server that has a volume."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys

import pytest
from nova import exception

from nova_docker.container import isolation
from nova_docker.privsep import devices
from nova_docker.privsep import mount_api
from nova_docker.privsep import userns
from tests import archives
from tests import samples
from tests.attacks import attack
from tests.functional import loops

LEVELS = (isolation.USER, isolation.SHARED)

# Opens a device, sends the descriptor to itself through a socket, and closes it: no
# list of its files has it. After a line of input, it receives the descriptor and reads.
SENDER = """
import array, os, socket, sys
device = os.open(sys.argv[1], os.O_RDONLY)
ours, theirs = socket.socketpair()
fds = array.array("i", [device])
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
os.close(device)
print("sent", flush=True)
sys.stdin.readline()
_, [received], _, _ = socket.recv_fds(theirs, 1, 1)
print(os.pread(received, 6, 0).decode(), flush=True)
"""


@pytest.fixture(params=LEVELS)
def flavor(request):
    return samples.flavor(extra_specs={"docker:isolation": request.param})


@pytest.fixture
def volume(tmp_path):
    with loops.made(tmp_path / "volume") as volume:
        volume.file.write_bytes(b"secret" + volume.file.read_bytes()[6:])
        yield volume


@pytest.fixture
def other(tmp_path):
    with loops.made(tmp_path / "other") as volume:
        volume.file.write_bytes(b"secret" + volume.file.read_bytes()[6:])
        yield volume


def attach(driver, server, volume, mountpoint="/dev/vdb"):
    info = volume.connection_info()
    driver.attach_volume(None, info, server.instance, mountpoint)


def detach(driver, server, volume, mountpoint="/dev/vdb"):
    info = volume.connection_info()
    driver.detach_volume(None, info, server.instance, mountpoint)


def reads(server, path):
    with contextlib.suppress(subprocess.CalledProcessError):
        return "secret" in server.run(f"dd if={path} bs=6 count=1")
    return False


@pytest.fixture
def sender():
    """Runs :data:`SENDER` on a device of a server."""
    started = []

    def start(server, path):
        # The image has no Python: the host's opens the device in the server's mount.
        process = subprocess.Popen(
            [sys.executable, "-c", SENDER, f"/proc/{server.pid}/root{path}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout.readline() == "sent\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@attack(
    "Devices of the host and volumes of other servers",
    tried="root in a server with a volume makes device nodes, and renames, links and "
    "removes the one that it has",
    held_by="no CAP_MKNOD; the node is a mount, and the device cgroup has no other one",
)
def test_a_server_reaches_no_device_but_its_own(driver, boot, flavor, volume, other):
    server, neighbour = boot(flavor=flavor), boot(flavor=flavor)
    attach(driver, server, volume)
    attach(driver, neighbour, other)
    major, minor = other.number.split(":")
    for command in (
        f"busybox mknod /tmp/x b {major} {minor}",
        f"busybox mknod /dev/x b {major} {minor}",
        "busybox mv /dev/vdb /dev/vdc",
        "busybox ln /dev/vdb /dev/vdc",
        "busybox rm /dev/vdb",
        "busybox umount /dev/vdb",
    ):
        with pytest.raises(subprocess.CalledProcessError):
            server.run(command)
    assert reads(server, "/dev/vdb")


@attack(
    "The next volume of the host in place of one's own",
    tried="root in a server detaches the loop device of its volume from the file, so "
    "that the host uses the device for another server's volume",
    held_by="a seccomp filter refuses all requests to loop devices",
)
def test_a_loop_device_stays_with_its_file(driver, boot, flavor, volume):
    server = boot(flavor=flavor)
    attach(driver, server, volume)
    for command in "losetup -d /dev/vdb", "losetup /dev/vdb /etc/passwd":
        with pytest.raises(subprocess.CalledProcessError):
            server.run(f"busybox {command}")
    assert loops.losetup("--associated", str(volume.file)).startswith(volume.path)


@attack(
    "A volume that cannot be detached",
    tried="root in a server renames its /dev/vdb while the volume is attached, to have "
    "the device where nobody looks for it",
    held_by="the device is allowed only once it is where it belongs",
)
def test_a_device_that_has_been_moved_cannot_be_opened(
    driver, boot, flavor, volume, monkeypatch
):
    server = boot(flavor=flavor)
    root, move_onto = userns.base_of(server.name) or 0, mount_api.move_onto

    def late(tree, target):
        devices.act_as(root)
        os.rename("/dev/vdb", "/dev/mine")
        devices.act_as(0)
        move_onto(tree, target)

    # The child that mounts the device is in the server's mount namespace.
    with monkeypatch.context() as child:
        child.setattr(mount_api, "move_onto", late)
        with pytest.raises(exception.VolumeAttachFailed, match="moved its /dev/vdb"):
            attach(driver, server, volume)
    assert server.run("test -b /dev/mine && echo there")
    assert not reads(server, "/dev/mine")
    assert devices.owners(volume.number) == []
    attach(driver, server, volume)
    # The node forbids devices, whatever the control group allows.
    assert reads(server, "/dev/vdb")
    assert not reads(server, "/dev/mine")


@attack(
    "A volume through a device node of the image",
    tried="an image whose layers contain nodes of all loop devices, with a volume that "
    "is one of them",
    held_by="no mount of a server allows device nodes, except that of the volume",
)
def test_device_nodes_of_the_image_cannot_be_opened(
    driver, boot, image, flavor, volume, other
):
    major = volume.number.split(":")[0]
    layer = archives.devices_layer(
        {f"loop{minor}": (int(major), minor) for minor in range(64)}
    )
    hostile = image(archives.archive([archives.busybox_layer(), layer]))
    server = boot(hostile, flavor=flavor)
    attach(driver, server, volume)
    assert reads(server, "/dev/vdb")
    for path in volume.path, other.path:
        assert server.run(f"test -b /nodes/{os.path.basename(path)} && echo there")
        assert not reads(server, f"/nodes/{os.path.basename(path)}")


@attack(
    "A volume that was detached",
    tried="root in a server opens its volume and sends the descriptor through a socket "
    "to itself, so that no process has it when the volume is detached",
    held_by="the kernel does not remove the mount of a device that is open anywhere",
)
def test_a_descriptor_on_its_way_keeps_the_volume(driver, boot, volume, sender):
    server = boot()
    attach(driver, server, volume)
    process = sender(server, "/dev/vdb")
    with pytest.raises(exception.DeviceDetachFailed, match="busy"):
        detach(driver, server, volume)
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "secret\n"
    process.wait()
    detach(driver, server, volume)
    assert devices.owners(volume.number) == []


@attack(
    "Files of the host in place of /dev/vdb",
    tried="root in a server puts a symbolic link, a directory or a named pipe where "
    "its volume will be",
    held_by="nothing in the server's /dev is followed or opened, and the volume is "
    "refused",
)
@pytest.mark.parametrize(
    "obstacle",
    [
        "busybox ln -s /proc/1/root/etc/passwd /dev/vdb",
        "busybox ln -s ../../../etc/passwd /dev/vdb",
        "busybox mkdir /dev/vdb",
        "busybox mkfifo /dev/vdb",
    ],
)
def test_what_is_in_the_way_is_not_followed(driver, boot, flavor, volume, obstacle):
    server = boot(flavor=flavor)
    server.run(obstacle)
    with pytest.raises(exception.VolumeAttachFailed, match="exists in the server"):
        attach(driver, server, volume)
    assert devices.owners(volume.number) == []


@attack(
    "Two volumes at once",
    tried="several requests attach and detach the volumes of a server at the same time",
    held_by="one request at a time changes a server's devices",
)
def test_attachments_that_race_each_get_a_device(driver, boot, volume, other):
    server = boot()
    both = ((volume, "/dev/vdb"), (other, "/dev/vdc"))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for action in attach, detach, attach:
            done = [pool.submit(action, driver, server, *which) for which in both * 3]
            for future in done:
                future.result()
    assert reads(server, "/dev/vdb")
    assert reads(server, "/dev/vdc")


@attack(
    "The host's parser of file systems",
    tried="a tenant attaches a volume whose file system is damaged, and restarts the "
    "server with it",
    held_by="the host never mounts a volume",
)
def test_a_damaged_file_system_does_not_keep_a_server_from_starting(
    driver, boot, volume
):
    volume.file.write_bytes(os.urandom(1 << 20) + volume.file.read_bytes()[1 << 20 :])
    server = boot(block_device_info=loops.info(volume.mapping("/dev/vdb")))
    driver.reboot(None, server.instance, server.network_info, "HARD")
    mounted = pathlib.Path("/proc/self/mountinfo").read_text()
    assert f" {volume.path} " not in mounted
    assert server.run("test -b /dev/vdb && echo there")
