# SPDX-License-Identifier: Apache-2.0
"""Servers that do not run do not answer, on a real engine and switch."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from nova.compute import power_state

from nova_docker import frozen
from nova_docker.privsep import netns_names
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually
from tests.functional.host import state

# With its checksum. The kernel puts 20 bytes of IP before what a raw socket receives.
ECHO_REQUEST = struct.pack("!BBHHH", 8, 0, 0xF7FF, 0, 0)
ECHO_REPLY, TYPE = 0, 20
PORT = 7


def inside(server, kind, protocol=0):
    """Return a socket in the network namespace of a server."""
    with netns_names.inside(server.name):
        found = socket.socket(socket.AF_INET, kind, protocol)
    found.settimeout(0.5)
    return found


def answers(client, address):
    """Return whether an address answers one ping of another server."""
    with (
        contextlib.suppress(OSError),
        # The host's groups may not use other sockets for ICMP in a server's namespace.
        inside(client, socket.SOCK_RAW, socket.IPPROTO_ICMP) as ping,
    ):
        ping.sendto(ECHO_REQUEST, (address, 0))
        return ping.recv(64)[TYPE] == ECHO_REPLY
    return False


def drain(connection):
    """Read what has been sent; raises TimeoutError."""
    while connection.recv(4096):
        pass


def is_silent(client, address):
    return not any(answers(client, address) for _ in range(3))


@pytest.fixture
def victim(boot):
    """A server with the address 192.0.2.10."""
    return boot()


@pytest.fixture
def client(boot, victim):
    found = boot()
    assert eventually(lambda: answers(found, "192.0.2.10"))
    return found


def stop(driver, server):
    driver.power_off(server.instance)


def pause(driver, server):
    driver.pause(server.instance)


def suspend(driver, server):
    driver.suspend(None, server.instance)


def unpause(driver, server):
    driver.unpause(server.instance)


def resume(driver, server):
    driver.resume(None, server.instance, server.network_info)


def reboot(driver, server):
    driver.reboot(None, server.instance, server.network_info, "HARD")


def start(driver, server):
    driver.power_on(None, server.instance, server.network_info)


@attack(
    "A frozen or stopped server that still answers",
    tried="A server is paused, suspended in memory or stopped, and nova-compute is "
    "restarted; another server of the network pings it all the while.",
    held_by="The host ends of its NICs are down until it runs again, also where Nova "
    "plugs the NICs of all servers when nova-compute starts.",
)
@pytest.mark.parametrize(
    ("freeze", "thaw"),
    [
        (pause, unpause),
        (suspend, resume),
        (pause, reboot),
        (stop, start),
        (stop, reboot),
    ],
)
def test_a_server_that_does_not_run_is_silent(
    driver, make_driver, victim, client, freeze, thaw
):
    freeze(driver, victim)
    assert state(driver, victim) != power_state.RUNNING
    assert is_silent(client, "192.0.2.10")

    restarted = make_driver()
    restarted.plug_vifs(victim.instance, victim.network_info)
    restarted.plug_vifs(client.instance, client.network_info)
    assert is_silent(client, "192.0.2.10")

    thaw(restarted, victim)
    assert state(restarted, victim) == power_state.RUNNING
    assert eventually(lambda: answers(client, "192.0.2.10"))


@attack(
    "A NIC that connects a frozen server",
    tried="A port is attached to a paused server, and another server of the network "
    "pings the new address.",
    held_by="Only the NICs of a server that runs are connected.",
)
def test_a_nic_attached_to_a_frozen_server_is_silent(driver, boot, nic):
    # Not in the network of the first NIC, through which the answer would leave.
    def other(address):
        return nic(samples.subnet("203.0.113.0/24", address))

    victim, client = boot(), boot(nics=[other("203.0.113.2")])
    vif = other("203.0.113.1")
    driver.pause(victim.instance)
    driver.attach_interface(None, victim.instance, None, vif)
    victim.network_info.append(vif)
    assert is_silent(client, "203.0.113.1")
    driver.unpause(victim.instance)
    assert eventually(lambda: answers(client, "203.0.113.1"))


@attack(
    "A way to lose the connections of a server",
    tried="A server with an open TCP connection is paused for a second, while "
    "nova-compute is restarted, and unpaused.",
    held_by="The links are restored before the processes continue, and no address or "
    "route of the server changes.",
)
def test_tcp_connections_survive_a_pause(driver, make_driver, victim, client):
    ticks = f"(while :; do echo tick; sleep 0.05; done) | nc -l -p {PORT}"
    victim.run(f"{{ {ticks}; }} >/dev/null 2>&1 &")
    with inside(client, socket.SOCK_STREAM) as connection:
        assert eventually(lambda: connection.connect_ex(("192.0.2.10", PORT)) == 0)
        assert connection.recv(4) == b"tick"
        driver.pause(victim.instance)
        with pytest.raises(TimeoutError):
            drain(connection)
        make_driver().plug_vifs(victim.instance, victim.network_info)
        driver.unpause(victim.instance)
        connection.settimeout(20)
        for _ in range(5):
            assert connection.recv(4)


@attack(
    "A server that a snapshot freezes for ever",
    tried="nova-compute is killed while it holds a server frozen for a snapshot; the "
    "user of another server has paused it.",
    held_by="A mark on the host tells the two apart: when nova-compute starts, it "
    "thaws the first and leaves the second paused.",
)
def test_a_killed_snapshot_thaws_its_server_and_no_other(
    driver, make_driver, victim, client
):
    with driver._power.held(victim.instance):
        assert state(driver, victim) == power_state.PAUSED
        # It is not cut off: this is short.
        assert answers(client, "192.0.2.10")
    # As held() does, if it is killed in its block.
    frozen.mark(victim.instance.uuid)
    victim.engine.client.pause_container(victim.name)
    driver.pause(client.instance)

    restarted = make_driver()

    assert state(restarted, victim) == power_state.RUNNING
    assert state(restarted, client) == power_state.PAUSED
    assert frozen.marked() == []
