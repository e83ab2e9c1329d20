# SPDX-License-Identifier: Apache-2.0
"""Attacks from servers in gVisor, on a real engine with runsc."""

from __future__ import annotations

import contextlib
import pathlib
import platform
import subprocess
import time

import pytest
from nova import context
from nova import exception
from nova.compute import power_state

from nova_docker.container import isolation
from tests import archives
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually
from tests.functional.host import state

SPECS = {"docker:isolation": "gvisor"}


@pytest.fixture
def gvisor(boot):
    """Boots a server in gVisor."""

    def start(*arguments, memory_mb=64, **values):
        flavor = samples.flavor(memory_mb=memory_mb, extra_specs=SPECS)
        return boot(*arguments, flavor=flavor, **values)

    return start


@pytest.fixture
def answers(engine):
    """The engine answers for every container when the test ends."""
    yield
    for found in engine.client.list_containers():
        engine.client.inspect_container(found["Id"], timeout=2)


def is_in_gvisor(server):
    """Tell whether the kernel that a server sees is not the host's."""
    return server.run("cat /proc/version") != pathlib.Path("/proc/version").read_text()


@attack(
    "The kernel of the host",
    tried="A server in gVisor reads what the kernel says of itself, and looks for the "
    "host's devices, mounts and sysctls",
    held_by="Its system calls end in gVisor, which passes none of them on",
)
def test_a_server_does_not_reach_the_hosts_kernel(gvisor):
    server = gvisor()
    assert is_in_gvisor(server)
    for command in ("cat /proc/version", "busybox uname -r", "busybox dmesg"):
        assert platform.release() not in server.run(command)
    for path in ("/proc/kcore", "/proc/sysrq-trigger", "/proc/config.gz", "/dev/kmsg"):
        assert "No such file" in server.run(f"cat {path} 2>&1 || true")
    assert "upperdir" not in server.run("cat /proc/mounts")
    assert server.run("ls /sys/module 2>/dev/null || true") == ""


@attack(
    "Another level of isolation",
    tried="An image or its properties name a level of isolation",
    held_by="Only the flavor and the host's configuration choose it",
)
@pytest.mark.parametrize("level", ["user", "shared", "gvisor"])
def test_an_image_cannot_choose_the_level(boot, gvisor, image, level):
    config = {
        "Cmd": ["cat"],
        "Env": [f"NOVA_ISOLATION={level}", "PATH=/bin"],
        "Labels": {isolation.LABEL: level},
    }
    meta = image(config=config, properties={"docker:isolation": level})
    server = gvisor(meta)
    assert is_in_gvisor(server)
    other = boot(meta, metadata={"docker:isolation": level})
    assert not is_in_gvisor(other)
    assert other.run("echo $NOVA_ISOLATION") == "user\n"
    assert other.inspect()["Config"]["Labels"][isolation.LABEL] == "user"


@attack(
    "A server that runs in another runtime than its level demands",
    tried="The container of a server in gVisor is created with the runtime of others, "
    "and the other way round",
    held_by="Each runtime refuses the containers of the other",
)
@pytest.mark.parametrize(
    ("runtime", "level"), [("nova", "gvisor"), ("nova-gvisor", "shared")]
)
def test_a_runtime_refuses_the_servers_of_another(gvisor, boot, engine, runtime, level):
    server = boot(flavor=samples.flavor(extra_specs={"docker:isolation": level}))
    create = ["docker", "--host", engine.host, "run", "--rm", f"--runtime={runtime}"]
    env = [f"--env=NOVA_NETNS={server.name}", f"--env=NOVA_ISOLATION={level}"]
    found = subprocess.run(
        [*create, "--network=none", *env, server.inspect()["Image"], "true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode
    assert f"NOVA_ISOLATION={level}, and its runtime uses" in found.stderr


@attack(
    "Block the engine with files, from gVisor",
    tried="a server in gVisor replaces /etc/group by a directory or a large sparse "
    "file, and reboots",
    held_by="gVisor writes to the same disk, and the driver looks at the file before "
    "each start",
)
@pytest.mark.parametrize(
    "script",
    [
        "busybox mkdir /etc/group",
        "busybox truncate -s 64M /etc/group",
    ],
)
def test_files_that_would_block_the_engine(driver, gvisor, answers, script):
    server = gvisor()
    server.run(script)
    with pytest.raises(exception.InstancePowerOnFailure, match="rescue"):
        driver.reboot(
            context.get_admin_context(), server.instance, server.network_info, "HARD"
        )
    assert state(driver, server) == power_state.SHUTDOWN


@attack(
    "A named pipe on the host's disk, from gVisor",
    tried="a server in gVisor replaces /etc/passwd by a named pipe, and reboots",
    held_by="gVisor keeps named pipes in its memory, and the driver looks at the file "
    "before each start",
)
def test_a_named_pipe(driver, gvisor, answers):
    server = gvisor()
    server.run("rm /etc/passwd; busybox mkfifo /etc/passwd")
    upper = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["UpperDir"])
    pipe = (upper / "etc/passwd").is_fifo()
    try:
        driver.reboot(None, server.instance, server.network_info, "HARD")
    except exception.InstancePowerOnFailure:
        assert pipe
    else:
        assert not pipe


@attack(
    "Block the engine's look-up of a user, from gVisor",
    tried="a server in gVisor, whose image has a user, exchanges /etc/passwd and a "
    "named pipe all the time, while the driver runs commands in it",
    held_by="gVisor freezes the server before the driver looks at the file",
)
def test_files_that_change_all_the_time(driver, gvisor, image, answers):
    chpasswd = b"#!/bin/sh\ncat > /dev/null\n"
    layer = archives.busybox_layer({"usr/sbin/chpasswd": chpasswd})
    server = gvisor(image(archives.archive([layer], config={"User": "0"})))
    swap = (
        "cd /etc; busybox cp passwd good; busybox mkfifo bad; while :; do "
        "busybox cp good passwd.new; busybox mv passwd.new passwd; "
        "busybox mkfifo fifo; busybox mv fifo passwd; done"
    )
    server.run(f"({swap}) >/dev/null 2>&1 &")
    for _ in range(5):
        # It may be refused, but it must not block the engine.
        with contextlib.suppress(exception.NovaException):
            driver.set_admin_password(server.instance, "secret")
        server.engine.client.inspect_container(server.name, timeout=2)


@attack(
    "A server in gVisor that cannot be stopped",
    tried="A server in gVisor replaces a program by a named pipe. When it is told to "
    "run that, gVisor obeys nothing any more",
    held_by="Each command to gVisor has a limited time, and what does not end in time "
    "is killed on the host",
)
@pytest.mark.parametrize("verb", ["reboot", "power_off", "destroy"])
def test_a_server_that_obeys_nothing(driver, gvisor, verb):
    server, neighbour = gvisor(), gvisor()
    server.run("busybox mkfifo /bin/pipe; busybox chmod 755 /bin/pipe")
    command = ["docker", "--host", server.engine.host, "exec", server.name, "/bin/pipe"]
    found = subprocess.run(command, capture_output=True, check=False, timeout=20)
    assert found.returncode
    began = time.monotonic()
    if verb == "reboot":
        driver.reboot(None, server.instance, server.network_info, "HARD")
        assert server.run("echo alive") == "alive\n"
    elif verb == "power_off":
        driver.power_off(server.instance, 1)
        assert state(driver, server) == power_state.SHUTDOWN
    else:
        driver.destroy(None, server.instance, server.network_info)
    assert time.monotonic() - began < 20
    assert neighbour.run("echo alive") == "alive\n"


@attack(
    "The host's disk, by the files that the engine mounts, from gVisor",
    tried="A server in gVisor writes to /etc/hosts, /etc/hostname and /etc/resolv.conf",
    held_by="The OCI runtime mounts copies in memory, whose size is limited",
)
def test_the_engines_files_do_not_grow(gvisor):
    server = gvisor()
    found = server.inspect()
    paths = [found[name] for name in ("HostnamePath", "HostsPath", "ResolvConfPath")]
    before = [pathlib.Path(path).read_bytes() for path in paths]
    for name in ("hostname", "hosts", "resolv.conf"):
        script = f"busybox dd if=/dev/zero of=/etc/{name} bs=1M count=5 2>&1 || true"
        assert "No space" in server.run(script)
    assert [pathlib.Path(path).read_bytes() for path in paths] == before


@attack(
    "The host's process IDs, from gVisor",
    tried="A server in gVisor forks without end",
    held_by="gVisor's threads count as the server's. When it gets no more of them, it "
    "ends, and so does its server, and no other",
)
def test_a_server_that_forks(driver, gvisor):
    server, neighbour = gvisor(), gvisor()
    limit = server.inspect()["HostConfig"]["PidsLimit"]
    assert limit >= 256
    command = ["docker", "--host", server.engine.host, "exec", "--detach"]
    script = "while :; do sleep 60 & done"
    subprocess.run([*command, server.name, "sh", "-c", script], check=True)
    assert eventually(lambda: state(driver, server) == power_state.SHUTDOWN)
    assert neighbour.run("(echo 1; echo 2) | tail -n 1") == "2\n"
    driver.power_on(None, server.instance, server.network_info)
    assert server.run("echo alive") == "alive\n"


@attack(
    "The host's memory, from gVisor",
    tried="A server in gVisor writes more to its memory than its flavor has",
    held_by="gVisor's memory is that of the server's cgroup",
)
def test_a_server_that_uses_too_much_memory(driver, gvisor):
    server, neighbour = gvisor(), gvisor()
    script = "busybox dd if=/dev/zero of=/tmp/file bs=1M count=300"
    command = ["docker", "--host", server.engine.host, "exec", "--detach"]
    subprocess.run([*command, server.name, "sh", "-c", script], check=True)
    assert eventually(lambda: state(driver, server) == power_state.SHUTDOWN)
    assert neighbour.run("echo alive") == "alive\n"
