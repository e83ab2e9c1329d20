# SPDX-License-Identifier: Apache-2.0
"""Attacks on limits of the kernel that all servers share, on a real engine.

The limits are small in these tests, so that they do not endanger the machine.
"""

from __future__ import annotations

import pathlib
import platform
import struct
import subprocess
import time

import psutil
import pytest

from nova_docker.host import kernel
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually

# Forks processes that do nothing until the kernel refuses. A shell ends when it cannot
# fork, so each attempt is in a shell of its own.
FORK = """
n=0
while [ $n -lt {most} ] && (sleep 60 & true) 2>/dev/null; do n=$((n + 1)); done
"""


# Of GET /containers/{id}/json
_ENGINE_FILES = ("HostnamePath", "HostsPath", "ResolvConfPath")
BUDGET = 600  # processes for all servers of the host


def processes(server):
    """Return the number of processes in a server, which needs no fork in it."""
    cgroup = pathlib.Path(f"/proc/{server.inspect()['State']['Pid']}/cgroup")
    for line in cgroup.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for root in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup"):
            current = pathlib.Path(f"{root}{path}/pids.current")
            if controllers in ("pids", "") and current.exists():
                return int(current.read_text())
    raise AssertionError(f"no pids controller in {cgroup}")


def fork(server, most):
    """Let a server fork until the kernel refuses; returns its processes then."""
    command = ["docker", "--host", server.engine.host, "exec", "--detach"]
    script = FORK.format(most=most)
    subprocess.run([*command, server.name, "sh", "-c", script], check=True)
    before = -1
    deadline = time.monotonic() + 20
    while (found := processes(server)) != before and time.monotonic() < deadline:
        before = found
        time.sleep(0.5)
    return found


@pytest.fixture
def small_budget(driver, monkeypatch):
    """Four servers of 256 MiB fill the host, and get 150 processes each."""
    monkeypatch.setattr(kernel, "processes_of_servers", lambda: BUDGET)
    monkeypatch.setitem(driver._host._info, "MemTotal", 1024 * 2**20)
    monkeypatch.setattr(driver._host, "_memory_ratio", 1.0)


@attack(
    "All process IDs of the host",
    tried="Three servers that fork until the kernel refuses",
    held_by="A server's share of the processes follows its flavor's memory, and the "
    "shares of all servers leave half of the processes to the host",
)
@pytest.mark.usefixtures("small_budget")
def test_servers_that_fork_leave_their_neighbour_its_share(driver, boot):
    flavor = samples.flavor(memory_mb=256)
    *hostile, neighbour = [boot(flavor=flavor) for _ in range(4)]

    counts = [fork(server, most=BUDGET) for server in hostile]

    assert all(140 <= count <= 150 for count in counts), counts
    # The neighbour can fork until it has its own share.
    assert neighbour.run("(echo 1; echo 2) | tail -n 1") == "2\n"
    assert 140 <= fork(neighbour, most=BUDGET) <= 150
    # A server that can no longer fork is deleted like any other.
    began = time.monotonic()
    for server in hostile:
        driver.destroy(None, server.instance, server.network_info)
    assert time.monotonic() - began < 30


@pytest.mark.usefixtures("small_budget")
@attack(
    "More processes after a resize",
    tried="A server that is resized to a flavor with more memory, and back",
    held_by="A resize and a hard reboot apply the flavor's share",
)
def test_a_resize_changes_the_share(driver, boot):
    server = boot(flavor=samples.flavor(memory_mb=256))
    flavor = samples.flavor(memory_mb=512)
    driver.migrate_disk_and_power_off(
        None, server.instance, driver.get_host_ip_addr(), flavor, server.network_info
    )
    assert server.inspect()["HostConfig"]["PidsLimit"] == BUDGET // 2
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert server.inspect()["HostConfig"]["PidsLimit"] == BUDGET // 4
    assert 140 <= fork(server, most=BUDGET) <= 150


@attack(
    "The host's memory",
    tried="A server whose processes need more memory than its flavor has",
    held_by="The kernel charges them to the server, and its OOM killer chooses among "
    "the processes of that server",
)
def test_processes_of_a_server_cannot_use_the_hosts_memory(boot):
    neighbour = boot()
    server = boot(flavor=samples.flavor(memory_mb=16))
    before = {process.pid for process in psutil.process_iter()} - _of(server)
    # A file in /dev/shm is memory of the server; a process holds more in a variable.
    hog = "i=0; while [ $i -lt 8 ]; do tail /dev/zero & i=$((i + 1)); done; wait"
    command = ["docker", "--host", server.engine.host, "exec", server.name, "sh", "-c"]
    subprocess.run([*command, hog], check=False, capture_output=True, timeout=60)
    assert eventually(lambda: _oom_kills(server) > 0 or _stopped(server))
    assert neighbour.run("echo fine") == "fine\n"
    engines = [pid for pid in before if _is_engine(pid)]
    assert engines and all(psutil.pid_exists(pid) for pid in engines)


@attack(
    "The host's disk, past the quota",
    tried="Root writes into /etc/hosts and the other files that the engine mounts, "
    "until the kernel refuses",
    held_by="The OCI runtime gives each server copies in memory, of 1 MiB together",
)
def test_the_files_that_the_engine_mounts_cannot_grow_on_the_hosts_disk(boot):
    server = boot()
    files = ("hostname", "hosts", "resolv.conf")
    before = {
        path: pathlib.Path(path).read_bytes()
        for path in (server.inspect()[key] for key in _ENGINE_FILES)
    }
    for name in files:
        server.run(f"head -c 4194304 /dev/zero >> /etc/{name} || true")
    sizes = server.run(f"cd /etc; cat {' '.join(files)} | wc -c")
    assert int(sizes) <= 2**20
    assert {path: pathlib.Path(path).read_bytes() for path in before} == before
    assert server.run("echo fine") == "fine\n"


@attack(
    "All pseudo-terminals of the host",
    tried="A server that opens terminals until the kernel refuses",
    held_by="The OCI runtime limits the terminals of each server to 256",
)
def test_a_server_that_opens_terminals_leaves_some_to_others(boot):
    server, neighbour = boot(flavor=samples.flavor(memory_mb=128)), boot()
    # Each shell opens terminals for the seven descriptors that it has to give, and only
    # then starts the next one: shells that compete for the last ones might all fail.
    opened = " ".join(f"{number}<>/dev/ptmx" for number in range(3, 10))
    script = f'exec {opened}; sh -c "$0" "$0"; sleep 30'
    command = ["docker", "--host", server.engine.host, "exec", "--detach"]
    subprocess.run([*command, server.name, "sh", "-c", script, script], check=True)

    def terminals():
        return len(server.run("echo /dev/pts/[0-9]*").split())

    # The shell that cannot open its last one exits.
    assert eventually(lambda: terminals() > kernel.PTYS - 7)
    time.sleep(0.5)
    assert terminals() <= kernel.PTYS
    assert neighbour.run("true 3<>/dev/ptmx && echo opened") == "opened\n"


@pytest.fixture
def sysctls():
    """Sets the sysctls that the installation guide asks for."""
    before = kernel.read()

    def write(values):
        for name, value in values.items():
            pathlib.Path("/proc/sys", name.replace(".", "/")).write_text(str(value))

    write({name: kernel.WANTED[name] for name in kernel.too_low(before)})
    yield
    write(before)


# Programs for x86-64, because busybox has none that uses inotify.
# Create inotify instances until the kernel refuses, then wait.
WATCH = "b8fd000000 0f05 85c0 79f5 b822000000 0f05"
# Create one, and exit with 1 if the kernel refuses.
PROBE = "b8fd000000 0f05 31ff 85c0 7902 ffc7 b83c000000 0f05"


def program(code):
    """Return an executable file with machine code in hexadecimal."""
    text = bytes.fromhex(code)
    base, headers = 0x400000, 64 + 56
    size = headers + len(text)
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    elf = struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
    return ident + elf + segment + text


@attack(
    "What the kernel allows a user, who is root of the host and of all servers",
    tried="A server that creates more inotify instances than the kernel's default "
    "allows a user",
    held_by="The sysctls of the installation guide leave the limit to the memory, "
    "which the kernel charges to the server",
)
@pytest.mark.usefixtures("sysctls")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="has programs for x86-64")
def test_a_server_that_watches_files_leaves_its_neighbour_able_to(boot, image):
    files = {"watch": program(WATCH), "probe": program(PROBE)}
    meta = image(files=files)
    server, neighbour = boot(meta), boot(meta)
    assert neighbour.run("/probe && echo works") == "works\n"
    command = ["docker", "--host", server.engine.host, "exec", "--detach"]
    script = "ulimit -n 1000; exec /watch"
    subprocess.run([*command, server.name, "sh", "-c", script], check=True)
    opened = "ls /proc/[0-9]*/fd 2>/dev/null | grep -c 9.."
    assert eventually(lambda: int(server.run(f"{opened} || true")) > 90)
    assert neighbour.run("/probe && echo works") == "works\n"


def _of(server):
    process = psutil.Process(server.inspect()["State"]["Pid"])
    return {process.pid, *(child.pid for child in process.children(recursive=True))}


def _stopped(server):
    return not server.inspect()["State"]["Running"]


def _oom_kills(server):
    files = ("/sys/fs/cgroup/memory/memory.oom_control", "/sys/fs/cgroup/memory.events")
    text = server.run(f"cat {' '.join(files)} 2>/dev/null || true")
    return sum(
        int(line.split()[1])
        for line in text.splitlines()
        if line.startswith("oom_kill ")
    )


def _is_engine(pid):
    try:
        return psutil.Process(pid).name() in ("dockerd", "containerd")
    except psutil.NoSuchProcess:
        return False
