# SPDX-License-Identifier: Apache-2.0
"""What the docker: extra specs of flavors set up, on a real engine."""

from __future__ import annotations

import pathlib

import pytest
from nova import exception

from nova_docker.driver import CONF
from tests import samples

LEVELS = ["user", "shared", "gvisor"]
CAP_SYS_RESOURCE = 24
FILE = [("/note", b"injected")]


def flavor(level="user", memory_mb=64, **specs):
    named = {f"docker:{name}": value for name, value in specs.items()}
    return samples.flavor(
        memory_mb=256 if level == "gvisor" else memory_mb,
        extra_specs={"docker:isolation": level, **named},
    )


def size_kib(server, path):
    """Return the size of the file system at a path."""
    lines = server.run(f"df -k {path}").splitlines()
    return int(lines[-1].split()[1])


@pytest.mark.parametrize("level", LEVELS)
def test_a_root_file_system_is_read_only_and_has_injected_files(driver, boot, level):
    server = boot(flavor=flavor(level, read_only="true", tmpfs="/run:8"), files=FILE)
    written = server.run("(echo x > /new) 2>&1 || echo refused; echo y > /run/new")
    assert "refused" in written
    assert server.run("cat /note") == "injected"
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert "refused" in server.run("(echo x > /new) 2>&1 || echo refused")
    assert server.run("cat /run/new 2>/dev/null || echo gone") == "gone\n"


@pytest.mark.parametrize("level", LEVELS)
def test_file_systems_in_memory_have_their_sizes(boot, level):
    server = boot(flavor=flavor(level, shm_size_mb="5", tmpfs="/run:8,/tmp:16"))
    assert size_kib(server, "/run") == 8 * 1024
    assert size_kib(server, "/tmp") == 16 * 1024
    if level != "gvisor":
        assert size_kib(server, "/dev/shm") == 5 * 1024


def may_limit_processes():
    """Return whether root of this machine may set limits of other users' processes.

    runc sets those of a server with a user namespace from outside.
    """
    status = pathlib.Path("/proc/self/status").read_text().split("CapEff:")[1]
    return bool(int(status.split()[0], 16) & 1 << CAP_SYS_RESOURCE)


@pytest.mark.parametrize("level", LEVELS)
def test_the_number_of_processes_is_that_of_the_flavor(boot, level):
    pids = 300 if level == "gvisor" else 40
    server = boot(flavor=flavor(level, pids=str(pids)))
    assert server.inspect()["HostConfig"]["PidsLimit"] == pids


@pytest.mark.parametrize("level", ["user", "shared"])
def test_limits_of_processes_are_those_of_the_flavor(boot, level):
    if level == "user" and not may_limit_processes():
        pytest.skip("root of this machine lacks CAP_SYS_RESOURCE")
    server = boot(flavor=flavor(level, ulimit_nofile="100:200", ulimit_core="0"))
    assert server.run("ulimit -Sn; ulimit -Hn; ulimit -c") == "100\n200\n0\n"
    raised = server.run("(ulimit -n 300) 2>/dev/null && echo raised || echo refused")
    assert raised == "refused\n"


@pytest.mark.parametrize("level", ["user", "shared"])
def test_sysctls_are_those_of_the_server(boot, level):
    wanted = {"net.core.somaxconn": "77", "kernel.msgmax": "9000"}
    server = boot(
        flavor=flavor(level, **{f"sysctl.{name}": v for name, v in wanted.items()})
    )
    other = boot(flavor=flavor(level))
    for name, value in wanted.items():
        path = f"/proc/sys/{name.replace('.', '/')}"
        assert server.run(f"cat {path}") == f"{value}\n"
        assert other.run(f"cat {path}") != f"{value}\n"
        with open(path) as hosts:
            assert hosts.read() != f"{value}\n"


def test_a_resize_cannot_change_them_but_the_number_of_processes(driver, boot):
    server = boot(flavor=flavor(tmpfs="/run:8"))
    resized = flavor(tmpfs="/run:8", pids="40")
    driver.migrate_disk_and_power_off(
        None, server.instance, CONF.my_ip, resized, server.network_info
    )
    assert server.inspect()["HostConfig"]["PidsLimit"] == 40
    with pytest.raises(exception.InstanceFaultRollback) as refused:
        driver.migrate_disk_and_power_off(
            None, server.instance, CONF.my_ip, flavor(), server.network_info
        )
    assert isinstance(refused.value.inner_exception, exception.ResizeError)
