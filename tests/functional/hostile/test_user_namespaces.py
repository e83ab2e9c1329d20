# SPDX-License-Identifier: Apache-2.0
"""Attacks by root of a server that has got out of it, on a real engine.

The attacker has left all namespaces of its server but the user's, has all capabilities
there, and holds descriptors of the host's root directory, of its /proc, and of another
server's process. A user namespace must hold it even then.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import struct
import subprocess

import pytest

from nova_docker.container import isolation
from tests import samples
from tests.attacks import attack

# Which arguments the attacker has: descriptors of / and /proc, a pidfd and a process ID
# of the victim, the path of a file of the victim, and the engine's socket.
ATTACKER = """
import ctypes, json, os, socket, sys
root, proc, pidfd, victim = map(int, sys.argv[1:5])
secret, engine = sys.argv[5:]
libc = ctypes.CDLL(None, use_errno=True)

def call(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "failed")

def read(directory, path):
    os.read(os.open(path, os.O_RDONLY, dir_fd=directory), 1)

def write(directory, path):
    os.open(path, os.O_WRONLY | os.O_APPEND, dir_fd=directory)

def enter(path):
    call(libc.setns(os.open(path, os.O_RDONLY, dir_fd=proc), 0))

def connect():
    socket.socket(socket.AF_UNIX).connect(engine)

def break_out():
    os.fchdir(root)
    os.chroot(".")

attempts = {
    "read /etc/shadow": lambda: read(root, "etc/shadow"),
    "write /etc/passwd": lambda: write(root, "etc/passwd"),
    "create a file": lambda: os.open("root/.x", os.O_CREAT | os.O_WRONLY, dir_fd=root),
    "read a file of the other server": lambda: read(root, secret),
    "read its environment": lambda: read(proc, f"{victim}/environ"),
    "look at its root": lambda: os.stat(f"{victim}/root/etc", dir_fd=proc),
    "open its memory": lambda: os.open(f"{victim}/mem", os.O_RDWR, dir_fd=proc),
    "change a sysctl": lambda: write(proc, "sys/kernel/core_pattern"),
    "press a magic key": lambda: write(proc, "sysrq-trigger"),
    **{
        f"enter the {kind} namespace of {pid}": lambda kind=kind, pid=pid: enter(
            f"{pid}/ns/{kind}"
        )
        for kind in ("mnt", "net", "pid", "user")
        for pid in (victim, 1)
    },
    "signal it": lambda: os.kill(victim, 0),
    "signal the host's first process": lambda: os.kill(1, 0),
    "signal it by a descriptor": lambda: call(libc.syscall(424, pidfd, 0, None, 0)),
    "trace it": lambda: call(libc.ptrace(16, victim, None, None)),
    "mount": lambda: call(libc.mount(b"x", b"/mnt", b"tmpfs", 0, None)),
    "make a device": lambda: os.mknod("/tmp/.nd-null", 0o20666, os.makedev(1, 3)),
    "ask the engine": connect,
    "become root of the host": lambda: os.setuid(int(os.environ["HOSTS_ROOT"])),
    # Last: what they prove is that the others can succeed.
    "read a file of everyone": lambda: read(root, "etc/hostname"),
    "signal the own server": lambda: os.kill(int(os.environ["OWN"]), 0),
}
result = {}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError as error:
        result[name] = error.errno
    else:
        result[name] = 0
print(json.dumps(result))
"""
NS_GET_OWNER_UID = 0xB704  # of ioctl_ns(2)
PYTHON = "/usr/bin/python3"  # one that every user may run


def outside(server, code, *arguments, pass_fds=(), **environment):
    """Run a program as root of a server's user namespace, outside of its others."""
    enter = ["nsenter", f"--target={server.pid}", "--user", "--setuid=0", "--setgid=0"]
    return subprocess.run(
        [*enter, PYTHON, "-IS", "-c", code, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        cwd="/",
        pass_fds=pass_fds,
        env=os.environ | environment,
    ).stdout


@pytest.fixture
def descriptors():
    """Opens something as the host's root, with a descriptor that a program inherits."""
    opened = []

    def keep(descriptor):
        opened.append(descriptor)
        return descriptor

    yield keep
    for descriptor in opened:
        os.close(descriptor)


@attack(
    "The host and its other servers, from outside of the own server",
    tried="root that has left its server's namespaces except the user's, with leaked "
    "descriptors of the host's / and /proc and of a process of another server, reads "
    "and writes files of both, enters their namespaces, signals and traces processes, "
    "mounts, makes devices and connects to the engine",
    held_by="the user namespace: its root is an unprivileged user of the host, and "
    "another one than the root of any other server",
)
def test_root_of_a_server_is_nobody_on_the_host(boot, descriptors, engine):
    server, neighbour = boot(), boot()
    neighbour.run("echo secret > /secret; busybox chmod 600 /secret")
    upper = pathlib.Path(neighbour.inspect()["GraphDriver"]["Data"]["UpperDir"])
    assert (upper / "secret").read_text() == "secret\n"
    fds = (
        descriptors(os.open("/", os.O_RDONLY)),
        descriptors(os.open("/proc", os.O_RDONLY)),
        descriptors(os.pidfd_open(neighbour.pid)),
    )

    result = json.loads(
        outside(
            server,
            ATTACKER,
            *fds,
            neighbour.pid,
            (upper / "secret").relative_to("/"),
            engine.host.removeprefix("unix://"),
            pass_fds=fds,
            OWN=str(server.pid),
            HOSTS_ROOT="4294967294",
        )
    )

    succeeded = {name for name, error in result.items() if error == 0}
    assert succeeded == {"read a file of everyone", "signal the own server"}
    assert not pathlib.Path("/root/.x").exists()


@attack(
    "The same, without a user namespace",
    tried="root with the ten capabilities of a server of docker:isolation=shared reads "
    "files of the host and of another server by a leaked descriptor, and signals it",
    held_by="only the mount namespace, in which no such descriptor exists: this level "
    "does not hold it, which the test shows",
)
def test_the_attacks_succeed_without_a_user_namespace(boot, descriptors):
    """What root of a server with docker:isolation=shared could do with them."""
    neighbour = boot(flavor=samples.flavor(extra_specs={"docker:isolation": "shared"}))
    neighbour.run("echo secret > /secret; busybox chmod 600 /secret")
    upper = pathlib.Path(neighbour.inspect()["GraphDriver"]["Data"]["UpperDir"])
    fds = [descriptors(os.open("/", os.O_RDONLY))]
    code = (
        "import os, sys\n"
        "for path in sys.argv[2:]:\n"
        "    os.open(path, os.O_RDONLY, dir_fd=int(sys.argv[1]))\n"
        f"os.kill({neighbour.pid}, 0)\n"
    )
    ten = sorted(name.lower() for name in isolation._SHARED_CAPABILITIES)
    command = ["setpriv", f"--bounding-set=-all,{','.join('+' + c for c in ten)}"]
    files = ["etc/shadow", str((upper / "secret").relative_to("/"))]
    subprocess.run(
        [*command, PYTHON, "-IS", "-c", code, str(fds[0]), *files],
        check=True,
        pass_fds=fds,
        cwd="/",
    )


# Takes as many of a kind of kernel object as it may, no more than its first argument.
# It says how many these are, and waits if it has a second argument.
TAKE = """
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None)
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
resource.setrlimit(resource.RLIMIT_SIGPENDING, (50, 50))
ADD_KEY, OWN_KEYRING = 248, -2

def signals(number):
    return libc.sigqueue(os.getpid(), 40, None) == 0

def keys(number):
    name = b"key%d" % number
    return libc.syscall(ADD_KEY, b"user", name, b"x", 1, OWN_KEYRING) >= 0

take, count = globals()[sys.argv[1]], 0
while count < int(sys.argv[2]) and take(count):
    count += 1
print(count, flush=True)
if sys.argv[3:]:
    sys.stdin.read()
"""


@attack(
    "What the kernel counts per user",
    tried="root of a server queues signals or adds keys until the limit of its user, "
    "outside of the server, where no system call is filtered; then another server does",
    held_by="each server has users of its own, also for what the kernel counts for the "
    "creator of a namespace",
)
@pytest.mark.parametrize("kind", ["signals", "keys"])
def test_one_server_does_not_use_up_the_limits_of_another(boot, kind):
    server, neighbour = boot(), boot()
    enter = ["nsenter", f"--target={server.pid}", "--user", "--setuid=0", "--setgid=0"]
    taking = subprocess.Popen(
        [*enter, PYTHON, "-IS", "-c", TAKE, kind, "4000", "wait"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        limit = int(taking.stdout.readline())
        # The limit is the user's: the server itself has nothing left.
        own = outside(server, TAKE, kind, 20)
        other = outside(neighbour, TAKE, kind, 20)
    finally:
        taking.communicate("")
    assert 20 <= limit < 4000
    assert int(own) == 0
    assert int(other) == 20


@attack(
    "inotify instances, keys and other objects that count for a namespace's creator",
    tried="two servers that use up what the creator of their user namespaces may have",
    held_by="the creator of each is its own first user, not the host's root",
)
def test_each_namespace_counts_for_the_server(boot):
    creators = set()
    for server in (boot(), boot()):
        with open(f"/proc/{server.pid}/ns/user") as namespace:
            found = fcntl.ioctl(namespace, NS_GET_OWNER_UID, b"\0" * 4)
        [creator] = struct.unpack("I", found)
        assert creator == pathlib.Path(f"/proc/{server.pid}").stat().st_uid
        creators.add(creator)
    assert len(creators) == 2 and 0 not in creators


@attack(
    "Programs with privileges on the host's disk",
    tried="root in a server makes a setuid program, and a user of the host runs it",
    held_by="only root of the host can enter the engine's directory",
)
def test_setuid_files_of_servers_are_out_of_reach(boot):
    server = boot()
    server.run("busybox cp /bin/busybox /su; busybox chmod 4755 /su")
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    assert (upper / "su").stat().st_mode & 0o4000
    path = json.dumps(str(upper / "su"))
    code = f"import os; print(os.access({path}, os.X_OK))"
    user = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
    shown = subprocess.run(
        [*user, PYTHON, "-IS", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd="/",
    ).stdout
    assert shown == "False\n"


@attack(
    "Frames with another sender",
    tried="root in a server, which has CAP_NET_RAW and CAP_NET_ADMIN, looks for "
    "interfaces of the host and of other servers, and changes sysctls of the host",
    held_by="its capabilities are those of its own network namespace",
)
def test_a_server_only_has_its_own_interfaces(boot):
    server, _ = boot(), boot()
    assert server.run("ls /sys/class/net").split() == ["eth0", "lo"]
    assert server.as_root("ip", "-o", "link").count("\n") == 2
    shown = server.run("echo 1 > /proc/sys/kernel/panic 2>&1; echo $?")
    assert shown.endswith("1\n")
