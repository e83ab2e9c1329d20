# SPDX-License-Identifier: Apache-2.0
"""Servers that do not run do not answer, in a real cloud."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest

from nova_docker.container.naming import name_of
from nova_docker.privsep import netns_names
from tests.attacks import attack
from tests.cloud import services
from tests.cloud.conftest import eventually

# Number 1, with its checksum: that of an answer to number 0 would be 0xFFFF, which the
# switch drops. The kernel puts 20 bytes of IP before what a raw socket receives.
ECHO_REQUEST = struct.pack("!BBHHH", 8, 0, 0xF7FE, 0, 1)
ECHO_REPLY, TYPE = 0, 20


def answers(client, address):
    """Return whether an address answers one ping of another server."""
    with netns_names.inside(name_of(client.id)):
        # The host's groups may not use other sockets for ICMP in a server's namespace.
        ping = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    with ping, contextlib.suppress(OSError):
        ping.settimeout(1)
        ping.sendto(ECHO_REQUEST, (address, 0))
        return ping.recv(64)[TYPE] == ECHO_REPLY
    return False


def is_silent(client, address):
    return not any(answers(client, address) for _ in range(3))


@attack(
    "A frozen or stopped server that still answers",
    tried="A server is paused, suspended or stopped through the API, and nova-compute "
    "is restarted; another server of the network pings it all the while.",
    held_by="The host ends of its NICs are down until it runs again, also where Nova "
    "plugs the NICs of all servers when nova-compute starts.",
)
@pytest.mark.parametrize(
    ("action", "status", "back"),
    [
        ("pause_server", "PAUSED", "unpause_server"),
        ("suspend_server", "SUSPENDED", "resume_server"),
        ("stop_server", "SHUTOFF", "start_server"),
    ],
)
def test_a_server_that_does_not_run_is_silent(boot, action, status, back):
    server, client = boot(), boot()
    address = server.address()
    assert eventually(lambda: answers(client, address))

    server.act(action, until=status)
    assert is_silent(client, address)
    services.restart("nova-compute")
    assert server.status == status
    assert is_silent(client, address)

    server.act(back, until="ACTIVE")
    assert eventually(lambda: answers(client, address))
    assert eventually(lambda: server.port().status == "ACTIVE")
