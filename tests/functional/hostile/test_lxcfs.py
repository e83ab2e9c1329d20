# SPDX-License-Identifier: Apache-2.0
"""Attacks on lxcfs, a daemon of the host that all servers use, on a real engine."""

from __future__ import annotations

import contextlib
import subprocess

import psutil
import pytest

from nova_docker.container import isolation
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually
from tests.lxcfs import MOST_BYTES

# Each line must fail.
CHANGES = """
echo x > /proc/meminfo
echo x >> /proc/uptime
truncate -s 0 /proc/cpuinfo
chmod 666 /proc/meminfo
chown 1 /proc/meminfo
rm /proc/meminfo
mv /proc/meminfo /proc/x
ln /proc/meminfo /x
umount /proc/meminfo
umount -l /proc
mount -o remount,rw /proc/meminfo
mount -o bind /etc/hostname /proc/meminfo
echo 1 > /sys/devices/system/cpu/online
ls /proc/meminfo/..
"""

# Opens a file until that fails; prints the name of the error.
OPEN = """
import errno, os, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
found = []
try:
    while True:
        found.append(os.open(sys.argv[1], os.O_RDONLY))
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
sys.stdin.read()
"""


def flavor(level):
    return samples.flavor(extra_specs={"docker:isolation": level})


@attack(
    "The files of /proc that other servers see",
    tried="Root of a server, with each isolation, who writes to the files of lxcfs, "
    "changes, moves and links them, and mounts and unmounts in their place",
    held_by="The files are read-only mounts, and a server may neither mount nor "
    "unmount",
)
@pytest.mark.parametrize("level", [isolation.USER, isolation.SHARED])
def test_a_server_cannot_change_the_files(lxcfs, boot, level):
    server, neighbour = boot(flavor=flavor(level)), boot()
    for change in CHANGES.strip().splitlines():
        assert server.run(f"({change}) 2>/dev/null && echo done || :") == "", change
    mode = (lxcfs.point / "proc/meminfo").stat().st_mode
    assert mode & 0o777 == 0o444
    for each in server, neighbour:
        assert "MemTotal:          65536 kB" in each.run("cat /proc/meminfo")


@contextlib.contextmanager
def opening(server):
    """Keep a file of lxcfs open as often as the server may; yields why not more often.

    The process is outside of the memory limit of the server.
    """
    enter = ["nsenter", f"--target={server.pid}", "--user", "--setuid=0", "--setgid=0"]
    file = f"/proc/{server.pid}/root/proc/cpuinfo"
    with subprocess.Popen(
        [*enter, "python3", "-c", OPEN, file],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process.stdout.readline().strip()
        process.stdin.close()


@attack(
    "The host's memory, by lxcfs",
    tried="A server that opens a file of lxcfs, which has a buffer for each, until the "
    "limits of its processes or lxcfs refuse",
    held_by="The limit of lxcfs's memory, which the operator sets: lxcfs refuses to "
    "open more, and answers again when the server closes them",
)
def test_open_files_do_not_use_up_the_memory_of_the_host(lxcfs, boot):
    server, neighbour = boot(), boot()
    reasons = []
    with contextlib.ExitStack() as kept:
        while "ENOMEM" not in reasons:
            reasons.append(kept.enter_context(opening(server)))
            assert set(reasons) <= {"EMFILE", "ENOMEM"}
            assert len(reasons) < 50
        assert psutil.Process(lxcfs.process.pid).memory_info().rss < MOST_BYTES
    assert lxcfs.process.poll() is None
    assert eventually(lambda: "65536 kB" in neighbour.run("cat /proc/meminfo"))
