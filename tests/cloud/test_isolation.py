# SPDX-License-Identifier: Apache-2.0
"""User namespaces of servers, in a real cloud."""

from __future__ import annotations

import pathlib

from nova_docker.container.naming import name_of
from tests.cloud.conftest import eventually


def base(engine, server):
    """Return the host's id of root in a server."""
    pid = engine.inspect_container(name_of(server.id))["State"]["Pid"]
    inside, first, _ = pathlib.Path(f"/proc/{pid}/uid_map").read_text().split()
    assert inside == "0"
    return int(first)


def test_each_server_has_ids_of_its_own(boot, engine):
    first, second = boot(), boot()
    assert 0 not in (base(engine, first), base(engine, second))
    assert base(engine, first) != base(engine, second)
    assert first.run("echo $NOVA_ISOLATION") == "user\n"


def test_a_flavor_chooses_the_isolation(boot, engine, flavor):
    shared = {
        "docker:isolation": "shared",
        "trait:CUSTOM_DOCKER_ISOLATION_SHARED": "required",
    }
    server = boot(flavor=flavor(shared))
    assert base(engine, server) == 0
    assert server.run("echo $NOVA_ISOLATION") == "shared\n"


def test_an_unknown_isolation_is_refused_with_the_reason(boot, flavor):
    server = boot(flavor=flavor({"docker:isolation": "vm"}), until="ERROR")
    assert "docker:isolation=vm" in server.show().fault["message"]


def test_a_hard_reboot_restores_the_network(boot):
    server = boot()
    address = server.address()
    server.run("ip link set eth0 down; ip addr flush dev eth0")
    assert address not in server.run("ip addr show dev eth0")
    server.act("reboot_server", "HARD", until="ACTIVE")
    assert eventually(lambda: address in server.run("ip addr show dev eth0"))


def test_root_sends_no_frames_with_another_address(boot):
    server, client = boot(), boot()
    ping = f"ping -c 1 -W 2 {server.address()}"
    assert eventually(lambda: "1 packets received" in client.run(ping, check=False))
    script = (
        "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:01; "
        "ip link set eth0 up; " + ping
    )
    assert "1 packets received" not in client.run(script, check=False)
