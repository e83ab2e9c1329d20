# SPDX-License-Identifier: Apache-2.0
"""The docker: extra specs of flavors that set up a container."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import settings
from tests import samples


def flavor(memory_mb=128, **specs):
    named = {f"docker:{name}": value for name, value in specs.items()}
    return samples.flavor(memory_mb=memory_mb, extra_specs=named)


def sysctl(name, value="1"):
    return flavor(**{f"sysctl.{name}": value})


def test_a_flavor_that_says_nothing_leaves_everything_to_the_engine():
    plain = settings.of(flavor())
    assert plain == settings.Settings()
    assert settings.host_config(plain) == {}
    assert settings.in_memory(plain) == []
    assert settings.pids(flavor(), 4096) == 4096


def test_a_flavor_sets_up_the_container():
    wanted = settings.of(
        flavor(
            shm_size_mb="32",
            ulimit_nofile="1024:4096",
            ulimit_core="0",
            tmpfs="/run:8, /tmp:16",
            read_only="True",
            **{"sysctl.net.core.somaxconn": "1024", "sysctl.kernel.sem": "1 2 3 4"},
        )
    )
    assert wanted.read_only
    assert settings.host_config(wanted) == {
        "ShmSize": 32 * 2**20,
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 1024, "Hard": 4096},
        ],
        "Sysctls": {"kernel.sem": "1 2 3 4", "net.core.somaxconn": "1024"},
    }
    assert [
        (mount["Target"], mount["TmpfsOptions"]["SizeBytes"])
        for mount in settings.in_memory(wanted)
    ] == [("/run", 8 * 2**20), ("/tmp", 16 * 2**20)]


def test_a_flavor_has_its_own_largest_number_of_processes():
    assert settings.pids(flavor(pids="100"), 4096) == 100


@pytest.mark.parametrize(
    "specs",
    [
        {"shm_size_mb": "129"},
        {"shm_size_mb": "-1"},
        {"shm_size_mb": "64m"},
        {"read_only": "maybe"},
        {"pids": "many"},
        {"ulimit_nofile": "many"},
        {"ulimit_nofile": "2:1"},
        {"ulimit_nofile": "1:2:3"},
        {"ulimit_nofile": str(2**63)},
        {"ulimit_rtprio": "99"},
        {"ulimit_nice": "20"},
        {"ulimit_nproc": "10"},
        {"tmpfs": "/run"},
        {"tmpfs": "/run:0"},
        {"tmpfs": "/run:129"},
        {"tmpfs": "run:1"},
        {"tmpfs": "/:1"},
        {"tmpfs": "/etc:1"},
        {"tmpfs": "/dev/shm:1"},
        {"tmpfs": "/proc/sys:1"},
        {"tmpfs": "/a/../etc:1"},
        {"tmpfs": "//etc:1"},
        {"tmpfs": ",".join(f"/{n}:1" for n in range(17))},
        {"sysctl.net.core.somaxconn": ""},
        {"sysctl.net.core.somaxconn": "1\n2"},
        {"sysctl.net.core.somaxconn": "1" * 129},
    ],
)
def test_a_malformed_setting_is_refused(specs):
    with pytest.raises(exception.InvalidInput, match=r"docker:.*use another flavor"):
        settings.refuse(flavor(**specs), "user")


@pytest.mark.parametrize(
    "name",
    [
        "net.ipv4.ip_local_port_range",
        "net.ipv4.conf.eth0-1.forwarding",
        "kernel.msgmax",
        "kernel.shm_rmid_forced",
        "fs.mqueue.msg_max",
    ],
)
def test_sysctls_of_the_servers_own_namespaces_are_set(name):
    settings.refuse(sysctl(name), "user")
    with pytest.raises(exception.InvalidInput, match="no effect in gVisor"):
        settings.refuse(sysctl(name), "gvisor")


@pytest.mark.parametrize(
    "name",
    [
        "kernel.core_pattern",
        "kernel.panic",
        "kernel.pid_max",
        "kernel.shmmax.x",
        "kernel.sem\n",
        "vm.overcommit_memory",
        "fs.file-max",
        "fs.mqueue",
        "net",
        "net.",
        "net/../kernel/core_pattern",
        "net.ipv4...kernel.core_pattern",
        "network.x",
        "user.max_user_namespaces",
    ],
)
def test_sysctls_of_the_host_are_refused(name):
    with pytest.raises(exception.InvalidInput, match="not a server's own"):
        settings.refuse(sysctl(name), "shared")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"read_only": "true"}),
        ({"shm_size_mb": "1"}, {}),
        ({"tmpfs": "/run:1"}, {"tmpfs": "/run:2"}),
        ({}, {"ulimit_core": "0"}),
        ({"sysctl.kernel.sem": "1"}, {}),
    ],
)
def test_a_resize_cannot_change_what_the_engine_sets_once(before, after):
    settings.refuse_change(flavor(**before), flavor(pids="100", **before))
    with pytest.raises(exception.ResizeError, match="when it creates"):
        settings.refuse_change(flavor(**before), flavor(**after))


def lessened(allowed=None, read_only=None, shm_mb=None):
    return settings.lessened(allowed or settings.Settings(), "image", read_only, shm_mb)


def test_an_image_asks_for_less():
    assert lessened() == settings.Settings()
    assert lessened(read_only="true").read_only
    assert lessened(shm_mb="64").shm_mb == 64
    assert lessened(settings.Settings(shm_mb=100), shm_mb="99").shm_mb == 99
    assert lessened(settings.Settings(shm_mb=100)).shm_mb == 100
    assert lessened(settings.Settings(read_only=True)).read_only


@pytest.mark.parametrize(
    ("allowed", "asked"),
    [
        ({}, {"shm_mb": "65"}),
        ({"shm_mb": 10}, {"shm_mb": "11"}),
        ({"read_only": True}, {"read_only": "false"}),
        ({}, {"read_only": "maybe"}),
        ({}, {"shm_mb": "-1"}),
    ],
)
def test_an_image_that_asks_for_more_is_refused(allowed, asked):
    with pytest.raises(exception.ImageUnacceptable, match="os_"):
        lessened(settings.Settings(**allowed), **asked)
