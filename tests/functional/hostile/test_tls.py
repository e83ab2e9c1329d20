# SPDX-License-Identifier: Apache-2.0
"""What is between nova-compute and an engine with TLS sees no data of servers."""

from __future__ import annotations

import contextlib
import socket

import pytest
from oslo_utils import uuidutils

from nova_docker import password
from nova_docker.console import SerialConsoles
from nova_docker.container import naming
from nova_docker.guest import Guest
from tests import samples
from tests.attacks import attack
from tests.conftest import IMAGE
from tests.functional import tls_engine

SECONDS = 20
TYPED = b"typed-at-the-console"
SHOWN = b"shown-by-the-console"


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="module")
def engine_host(pki):
    with tls_engine.running(pki) as (host, _):
        yield host


@pytest.fixture
def wire(engine_host):
    with contextlib.closing(tls_engine.Wire(engine_host)) as wire:
        yield wire


@pytest.fixture
def client(wire, pki):
    return wire.client(pki)


@pytest.fixture
def server(client):
    """The UUID of a server that runs a shell."""
    uuid = uuidutils.generate_uuid()
    name = naming.name_of(uuid)
    config = {"Image": IMAGE, "Cmd": ["sh"], "Tty": True, "OpenStdin": True}
    client.create_container(name, {**config, "HostConfig": {"NetworkMode": "none"}})
    client.start_container(name)
    yield uuid
    client.remove_container(name)


@attack(
    "A password on the wire",
    tried="A program between nova-compute and an engine with TLS recorded every byte "
    "while the driver set a server's password and read what chpasswd wrote",
    held_by="The input and output of programs go through TLS; the driver never gets "
    "hold of the socket beneath it",
)
def test_a_password_is_never_in_clear(client, wire, server):
    instance = samples.instance(uuid=server)
    secret = "pass-word-in-clear"
    password.change(Guest(client, instance), instance, secret)
    # It was set, so it passed; and the program repeated it, so it passed back.
    code, output = Guest(client, instance).run(["cat", "/set"], b"")
    assert (code, output) == (0, f"root:{secret}\n")
    assert len(wire.seen) > 1000
    assert secret.encode() not in wire.seen


@attack(
    "A console on the wire",
    tried="A program between nova-compute and an engine with TLS recorded every byte "
    "of a serial console, at the terminal of the first process and in a shell",
    held_by="Both streams go through TLS in both directions",
)
@pytest.mark.parametrize("kind", ["attach", "shell"])
def test_a_console_is_never_in_clear(client, wire, server, kind, monkeypatch):
    monkeypatch.setattr(
        "nova_docker.terminal.has_interactive_process", lambda found: kind == "attach"
    )
    consoles = SerialConsoles(client)
    with contextlib.ExitStack() as end:
        end.callback(consoles.stop)
        found = consoles.console(server)
        with socket.create_connection((found.host, found.port), SECONDS) as viewer:
            path = found.internal_access_path
            viewer.sendall(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
            half = len(SHOWN) // 2
            viewer.sendall(b": %b; echo %b''%b\n" % (TYPED, SHOWN[:half], SHOWN[half:]))
            seen = b""
            while not (TYPED in seen and SHOWN in seen):
                chunk = viewer.recv(4096)
                assert chunk, seen
                seen += chunk
    assert len(wire.seen) > 1000
    for clear in (TYPED, SHOWN, SHOWN[:half]):
        assert clear not in wire.seen
