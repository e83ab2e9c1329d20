# SPDX-License-Identifier: Apache-2.0
"""Streams through TLS behave like those of a unix socket, on a real engine."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import selectors
import socket
import threading
import time

import pytest
from oslo_utils import uuidutils

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.streams.frames import frames
from docker_engine.transport.tls import TLSConfig
from nova_docker import password
from nova_docker import terminal
from nova_docker.console import SerialConsoles
from nova_docker.container import naming
from nova_docker.guest import Guest
from tests import certificates
from tests import samples
from tests.conftest import IMAGE
from tests.functional import tls_engine
from tests.functional.host import eventually

SECONDS = 20


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="module")
def host(pki):
    with tls_engine.running(pki) as (host, _):
        yield host


@pytest.fixture
def client(host, pki):
    return DockerClient(host, tls=certificates.client(pki))


@pytest.fixture
def server(client):
    """The UUID of a server that runs a shell."""
    uuid = uuidutils.generate_uuid()
    name = naming.name_of(uuid)
    client.create_container(
        name,
        {
            "Image": IMAGE,
            "Cmd": ["sh"],
            "Tty": True,
            "OpenStdin": True,
            "HostConfig": {"NetworkMode": "none"},
        },
    )
    client.start_container(name)
    yield uuid
    client.remove_container(name)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Fails a test that leaves a descriptor or a thread of a stream behind."""
    before = descriptors()
    yield
    assert eventually(lambda: not streams())
    assert eventually(lambda: descriptors() <= before + 4), (before, descriptors())


def streams():
    return [t for t in threading.enumerate() if t.name == "docker-tls-stream"]


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def run(client, server, script, *, tty=False):
    command = {
        "Cmd": ["sh", "-c", script],
        "Tty": tty,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
    }
    started = client.create_exec(naming.name_of(server), command)
    stream = client.start_exec(started, tty=tty)
    stream.settimeout(SECONDS)
    return started, stream


def rest(stream):
    return b"".join(iter(lambda: stream.recv(65536), b""))


def test_input_ends_while_output_goes_on(client, server):
    """As chpasswd needs it, which reads its input to the end."""
    run_id, stream = run(client, server, "cat; sleep 0.2; echo end; exit 3")
    with stream:
        stream.sendall(b"input\n")
        stream.shutdown(socket.SHUT_WR)
        assert b"".join(frames(rest(stream))) == b"input\nend\n"
    assert eventually(lambda: not client.inspect_exec(run_id)["Running"])
    assert client.inspect_exec(run_id)["ExitCode"] == 3


def test_output_before_the_end_of_the_input_does_not_break_the_stream(client, server):
    """The half-close meets data of the engine on its way."""
    for _ in range(5):
        _, stream = run(client, server, "head -c 300000 /dev/zero; cat")
        with stream:
            stream.sendall(b"x")
            stream.shutdown(socket.SHUT_WR)
            output = b"".join(frames(rest(stream)))
        assert sorted({*output}) == [0, ord("x")]
        assert len(output) == 300001


def test_much_passes_unchanged_in_both_directions(client, server):
    content = os.urandom(3_000_000)
    _, stream = run(client, server, "cat")

    def write():
        stream.sendall(content)
        stream.shutdown(socket.SHUT_WR)

    writer = threading.Thread(target=write)
    writer.start()
    with stream:
        returned = b"".join(frames(rest(stream)))
        writer.join(SECONDS)
    assert hashlib.sha256(returned).digest() == hashlib.sha256(content).digest()


def test_the_first_output_is_not_lost(client, server):
    """It may come with the header of the response."""
    for n in range(30):
        _, stream = run(client, server, f"echo {n}")
        with stream:
            assert b"".join(frames(rest(stream))) == b"%d\n" % n


def test_a_selector_sees_output_and_end(client, server):
    _, stream = run(client, server, "read line; echo got $line")
    with stream, selectors.DefaultSelector() as selector:
        stream.setblocking(False)
        with pytest.raises(BlockingIOError):
            stream.recv(1)
        selector.register(stream, selectors.EVENT_READ)
        assert not selector.select(0.1)
        stream.send(b"it\n")
        seen = b""
        while selector.select(SECONDS):
            if not (chunk := stream.recv(4096)):
                break
            seen += chunk
    assert b"got it" in seen


def test_closing_from_another_thread_ends_a_read(client, server):
    _, stream = run(client, server, "sleep 1000")
    got = []
    reader = threading.Thread(target=lambda: got.append(stream.recv(1)))
    reader.start()
    time.sleep(0.2)
    with stream:
        stream.shutdown(socket.SHUT_RDWR)
        reader.join(SECONDS)
    assert got == [b""]


def test_a_stream_that_is_closed_after_its_half_close_ends(client, server):
    """The program neither writes nor ends: nothing else would wake the relay."""
    _, stream = run(client, server, "sleep 1000")
    stream.shutdown(socket.SHUT_WR)
    stream.close()
    assert eventually(lambda: not streams())


def test_a_stream_whose_input_is_not_read_ends_when_it_is_closed(client, server):
    _, stream = run(client, server, "sleep 1000")
    stream.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while True:
            stream.sendall(bytes(65536))
    assert streams()
    stream.close()
    assert eventually(lambda: not streams())


def test_a_stream_ends_with_its_container(client, server):
    with client.attach_container(
        naming.name_of(server), detach_keys=terminal.DETACH_KEYS
    ) as stream:
        stream.settimeout(SECONDS)
        client.kill_container(naming.name_of(server), "SIGKILL")
        rest(stream)
        assert eventually(lambda: not streams())


def test_a_terminal_is_attached_to_and_resized(client, server):
    name = naming.name_of(server)
    with client.attach_container(name, detach_keys=terminal.DETACH_KEYS) as stream:
        stream.settimeout(SECONDS)
        client.resize_container(name, 41, 133)
        stream.sendall(b"echo $$ $((40 + 2))\n")
        seen = b""
        while b"1 42\r\n" not in seen:
            seen += stream.recv(4096)
        # The keys that leave the terminal
        stream.sendall(b"\x10\x11")
        rest(stream)
    assert client.inspect_container(name)["State"]["Running"]


def test_a_password_is_set(client, server):
    instance = samples.instance(uuid=server)
    password.change(Guest(client, instance), instance, "s3cret")
    _, stream = run(client, server, "cat /set")
    with stream:
        assert b"".join(frames(rest(stream))) == b"root:s3cret\n"


@pytest.mark.parametrize("kind", ["attach", "shell"])
def test_a_console_is_relayed(client, server, kind, monkeypatch):
    monkeypatch.setattr(
        terminal, "has_interactive_process", lambda found: kind == "attach"
    )
    consoles = SerialConsoles(client)
    try:
        found = consoles.console(server)
        with socket.create_connection((found.host, found.port), SECONDS) as viewer:
            path = found.internal_access_path
            viewer.sendall(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
            viewer.sendall(b"echo $((40 + 2)); stty size\n")
            seen = b""
            while b"\r\n42\r\n" not in seen:
                chunk = viewer.recv(4096)
                assert chunk, seen
                seen += chunk
    finally:
        consoles.stop()


@pytest.mark.parametrize(
    ("field", "value"), [("ca_file", "stranger.pem"), ("cert_file", None)]
)
def test_an_untrusted_side_gets_no_stream(client, server, host, pki, field, value):
    run_id = client.create_exec(naming.name_of(server), {"Cmd": ["true"]})
    trusted = certificates.client(pki)
    options = {name: getattr(trusted, name) for name in ("ca_file", "cert_file")}
    options[field] = value and str(pathlib.Path(pki) / value)
    tls = TLSConfig(**options, key_file=options["cert_file"] and trusted.key_file)
    stranger = DockerClient(host, tls=tls)
    # Other calls fail, too; here it is the stream alone that must.
    stranger._transport._version = client.api_version
    with pytest.raises(errors.Unreachable):
        stranger.start_exec(run_id, tty=False)
