# SPDX-License-Identifier: Apache-2.0
"""Attacks by root of a server with systemd, on a real engine.

Such a server may divide its own control group. Nothing beside or above it may be in its
reach, even for a process that has left the server's mount namespace.
"""

from __future__ import annotations

import pathlib
import subprocess
import time

import pytest

from nova_docker.container import init
from tests import samples
from tests.attacks import attack

GROUPS = pathlib.Path("/sys/fs/cgroup")
DESCENDANTS, DEPTH = 1000, 16


def group(server):
    """Return the host's directory of the control group that a server may divide."""
    pure = (GROUPS / "cgroup.controllers").exists()
    lines = pathlib.Path(f"/proc/{server.pid}/cgroup").read_text().splitlines()
    [path] = [line[3:] for line in lines if line.startswith("0::")]
    root = GROUPS if pure else GROUPS / "unified"
    return root / path.lstrip("/").removesuffix("/init.scope")


@attack(
    "More resources than the flavor has",
    tried="Root of a server with systemd raises the limits of its control group, and "
    "moves a process out of it",
    held_by="The limits belong to the control group that the engine has made, whose "
    "files belong to root of the host; only its subtree is the server's",
)
def test_a_server_cannot_change_its_own_limits(boot_systemd):
    server = boot_systemd()
    own = group(server)
    limits = ["cgroup.max.descendants", "cgroup.max.depth", "cgroup.freeze"]
    limits += [p.name for p in own.iterdir() if p.name.startswith(("memory.m", "pids"))]
    for name in limits:
        script = f"echo 1 > /sys/fs/cgroup/{name}"
        assert "denied" in server.run(f"({script}) 2>&1 || :"), name
        # Neither can a process that sees the host's files
        found = server.as_root("sh", "-c", f"(echo 1 > {own}/{name}) 2>&1 || :")
        assert "denied" in found, name
    # cgroup v1 has the limits in hierarchies that the server does not see.
    for path in GROUPS.glob(f"*/docker/{server.inspect()['Id']}/*limit_in_bytes"):
        found = server.as_root("sh", "-c", f"(echo 1 > {path}) 2>&1 || :")
        assert "denied" in found, path
    assert server.run("cat /sys/fs/cgroup/cgroup.max.descendants") == "1000\n"
    for script in (
        "mount -t cgroup2 none /mnt",
        "mount -t cgroup -o memory none /mnt",
        "mount -o remount,rw /sys",
        "umount /sys/fs/cgroup",
        "unshare --user --map-root-user --mount true",
    ):
        assert server.run(f"{script} 2>/dev/null && echo done || echo no") == "no\n"


@attack(
    "The host's memory and time, with control groups",
    tried="Root of a server with systemd makes as many control groups, and as deep "
    "ones, as the kernel allows",
    held_by="The OCI runtime limits the number and depth of the groups below a "
    "server's own",
)
def test_a_server_can_make_only_so_many_control_groups(driver, boot_systemd, boot):
    server = boot_systemd()
    count = (
        "cd /sys/fs/cgroup; i=0; while [ $i -lt 5000 ] && mkdir x$i 2>/dev/null; "
        "do i=$((i+1)); done; find . -mindepth 1 -type d | wc -l"
    )
    assert int(server.run(count)) == DESCENDANTS
    assert boot().run("echo fine") == "fine\n"
    server.run("cd /sys/fs/cgroup; rmdir x*")
    dig = (
        "cd /sys/fs/cgroup; i=0; while mkdir y 2>/dev/null; do cd y; i=$((i+1)); done; "
        "echo $i"
    )
    assert int(server.run(dig)) == DEPTH
    fill = "cd /sys/fs/cgroup; for i in $(seq 2000); do mkdir z$i 2>/dev/null; done; :"
    server.run(fill)
    own = group(server)
    began = time.monotonic()
    driver.destroy(None, server.instance, server.network_info)
    assert time.monotonic() - began < 10
    assert not own.exists()


@attack(
    "Another server's processes",
    tried="Root of a server with systemd, even outside of its mount namespace, looks "
    "for the control group of another server, moves into it, freezes and kills it",
    held_by="A cgroup namespace hides the others, and they belong to other ids",
)
def test_a_server_neither_sees_nor_changes_another_ones_control_group(boot_systemd):
    server, victim = boot_systemd(), boot_systemd()
    target = group(victim)
    assert server.run("cat /proc/self/cgroup | sort -u | cut -d: -f3") != ""
    for line in server.run("cat /proc/1/cgroup /proc/self/cgroup").splitlines():
        assert "docker" not in line
    assert victim.inspect()["Id"] not in server.run(
        "find /sys/fs/cgroup /proc/1/cgroup"
    )
    for attempt in (
        f"mkdir {target}/mine",
        f"mkdir {target.parent}/mine",
        f"rmdir {target}/user.slice",
        f"echo 1 > {target}/cgroup.freeze",
        f"echo 1 > {target}/cgroup.kill",
        f"echo 1 > {target}/system.slice/cgroup.kill",
        f"echo $$ > {target}/cgroup.procs",
        f"echo $$ > {target}/system.slice/cgroup.procs",
        f"echo $$ > {target.parent}/cgroup.procs",
    ):
        found = server.as_root("sh", "-c", f"({attempt}) 2>&1 || echo failed")
        assert "failed" in found, attempt
    assert victim.run("systemctl is-system-running") == "running\n"


@attack(
    "The host's time, with a server that reboots without end",
    tried="A server whose first process reboots at once, again and again",
    held_by="Each time it reboots soon after its last start, it waits twice as long",
)
def test_a_server_that_reboots_in_a_loop_does_not_keep_the_host_busy(
    boot, image, monkeypatch
):
    command = ["busybox", "sh", "-c", "busybox reboot -f"]
    image_meta = image(config={"Entrypoint": command})
    instance = samples.instance(
        image_ref=image_meta.id,
        system_metadata={"image_os_init": init.SYSTEMD},
        host="test-host",
    )
    monkeypatch.setattr("nova.objects.Instance.get_by_uuid", lambda *args: instance)
    monkeypatch.setattr(type(instance), "get_network_info", lambda self: [])
    began = time.time()
    values = ("uuid", "image_ref", "system_metadata", "host")
    server = boot(image_meta, **{name: instance[name] for name in values})
    time.sleep(10)
    starts = subprocess.run(
        [
            *("docker", "--host", server.engine.host, "events"),
            *("--since", str(int(began)), "--until", str(int(time.time()))),
            *("--filter", f"container={server.name}", "--filter", "event=start"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    # At the start, and 0, 1, 3 and 7 seconds later
    assert 3 <= len(starts.splitlines()) <= 6


@attack(
    "A control group to divide, without a user namespace",
    tried="An image that sets the variables of the OCI runtime, in a server that runs "
    "without a user namespace",
    held_by="nova-compute sets the variables of every container, and the OCI runtime "
    "refuses systemd without a user namespace",
)
@pytest.mark.parametrize("level", ["user", "shared"])
def test_an_image_cannot_ask_the_runtime_for_systemd(boot, image, level):
    env = ["PATH=/bin", "NOVA_INIT=systemd"]
    flavor = samples.flavor(extra_specs={"docker:isolation": level})
    server = boot(image(config={"Env": env}), flavor=flavor)
    assert server.run("echo $NOVA_INIT") == "\n"
    assert " /run " not in server.run("cat /proc/mounts")
    attempt = "busybox mkdir /sys/fs/cgroup/x /sys/fs/cgroup/*/x"
    assert server.run(f"({attempt}) 2>/dev/null && echo made || echo no") == "no\n"
