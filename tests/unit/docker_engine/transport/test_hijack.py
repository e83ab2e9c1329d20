# SPDX-License-Identifier: Apache-2.0
"""Connections that become two-way streams, with and without TLS."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.transport import tls_stream
from tests.unit.docker_engine.http_engine import TIMEOUT
from tests.unit.docker_engine.http_engine import serving

START = "POST /exec/a/start"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
ROOT = str(pathlib.Path(__file__).parents[4])


def echo(handler):
    """Answer with the header and output in one piece, then repeat the input."""
    handler.wfile.write(UPGRADED + b"first ")
    while chunk := handler.connection.recv(65536):
        handler.wfile.write(chunk)
    handler.wfile.write(b" last")
    handler.drop()


@pytest.fixture(params=["unix", "tcp", "tls"])
def stream_client(request, engine):
    """A client of an engine that echoes, by each kind of connection."""
    if request.param == "tls":
        engine = request.getfixturevalue("tls_engine")
        client = DockerClient(engine.host, tls=request.getfixturevalue("tls"))
        engine.answers[START] = echo
        yield client
    elif request.param == "tcp":
        with serving() as engine:
            engine.answers[START] = echo
            yield DockerClient(engine.host)
    else:
        engine.answers[START] = echo
        yield DockerClient(engine.host)


def rest(stream):
    return b"".join(iter(lambda: stream.recv(65536), b""))


def relays():
    return [t for t in threading.enumerate() if t.name == "docker-tls-stream"]


def wait_for_relays():
    deadline = time.monotonic() + TIMEOUT
    while relays() and time.monotonic() < deadline:
        time.sleep(0.01)
    return relays()


def test_output_that_comes_with_the_header_is_not_lost(stream_client):
    with stream_client.start_exec("a", tty=True) as stream:
        stream.settimeout(TIMEOUT)
        assert stream.recv(6) == b"first "


def test_what_is_written_before_closing_arrives(tls_engine, tls):
    got = []
    over = threading.Event()

    def record(handler):
        handler.wfile.write(UPGRADED)
        while chunk := handler.connection.recv(65536):
            got.append(chunk)
        over.set()

    tls_engine.answers[START] = record
    with DockerClient(tls_engine.host, tls=tls).start_exec("a", tty=True) as stream:
        stream.sendall(bytes(150_000))
    assert over.wait(TIMEOUT)
    assert b"".join(got) == bytes(150_000)
    assert not wait_for_relays()


def test_a_lost_connection_ends_the_stream(tls_engine, tls):
    """Without the message by which TLS ends a connection."""

    def lose(handler):
        handler.wfile.write(UPGRADED + b"half")
        handler.drop()

    tls_engine.answers[START] = lose
    with DockerClient(tls_engine.host, tls=tls).start_exec("a", tty=True) as stream:
        stream.settimeout(TIMEOUT)
        assert rest(stream) == b"half"
    assert not wait_for_relays()


def test_a_response_that_is_not_a_stream_is_an_error(engine, client):
    engine.answers[START] = lambda handler: handler.answer(200, b"{}")
    with pytest.raises(errors.EngineError, match="into a stream"):
        client.start_exec("a", tty=True)


def test_an_error_keeps_its_message(engine, client):
    message = "x" * 3000
    engine.answers[START] = lambda handler: handler.answer(
        404, b'{"message": "%b"}' % message.encode()
    )
    with pytest.raises(errors.ExecNotFound, match=message):
        client.start_exec("a", tty=True)


def test_a_socket_without_tls_is_never_handed_out(pki, tls, monkeypatch):
    """Not even by a fault of the transport, and an engine that answers in clear."""
    monkeypatch.setattr(tls_stream, "wrap", lambda wire, *args: wire)
    with serving() as engine:
        engine.answers[START] = echo
        client = DockerClient(engine.host, tls=tls)
        client._transport._version = "1.41"
        with pytest.raises(errors.EngineError, match="not a TLS stream"):
            client.start_exec("a", tty=True)


def test_tls_on_a_unix_socket_is_a_mistake(tls):
    with pytest.raises(ValueError, match="unix"):
        DockerClient("unix:///docker.sock", tls=tls)


@pytest.mark.parametrize("ca", ["stranger.pem", None])
def test_an_untrusted_engine_gets_no_input(tls_engine, tls, pki, ca, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pki / "ca.pem"))
    tls = dataclasses.replace(tls, ca_file=ca and str(pki / ca))
    client = DockerClient(tls_engine.host, tls=tls)
    client._transport._version = "1.41"
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        client.start_exec("a", tty=True)
    assert tls_engine.calls == []
    assert not relays()


def test_a_certificate_for_another_name_is_rejected(tls_engine, tls):
    host = tls_engine.host.replace("127.0.0.1", "localhost")
    client = DockerClient(host, tls=tls)
    client._transport._version = "1.41"
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        client.start_exec("a", tty=True)


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(tls_engine, tls):
    tls_engine.answers[START] = echo
    tls = dataclasses.replace(tls, ca_file=None, verify=False)
    with DockerClient(tls_engine.host, tls=tls).start_exec("a", tty=True) as stream:
        assert stream.recv(6) == b"first "


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_missing_file_is_an_error_of_the_connection(tls, field):
    tls = dataclasses.replace(tls, **{field: "/none.pem"})
    client = DockerClient("tcp://127.0.0.1:1", tls=tls)
    client._transport._version = "1.41"
    with pytest.raises(errors.Unreachable, match="No such file"):
        client.start_exec("a", tty=True)


def test_a_silent_engine_does_not_hold_up_the_handshake(tls):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        client = DockerClient(f"tcp://127.0.0.1:{port}", tls=tls, connect_timeout=0.2)
        client._transport._version = "1.41"
        with pytest.raises(errors.Timeout):
            client.start_exec("a", tty=True)


GREEN = """
import sys
import eventlet
eventlet.monkey_patch()
import socket
from docker_engine.client import DockerClient
from docker_engine.transport.tls import TLSConfig

host, ca, cert, key = sys.argv[1:]
tls = TLSConfig(ca_file=ca, cert_file=cert, key_file=key) if ca else None
with eventlet.Timeout(10):
    with DockerClient(host, tls=tls).start_exec("a", tty=True) as stream:
        writer = eventlet.spawn(stream.sendall, bytes(500000))
        seen = 0
        while seen < 500006:
            seen += len(stream.recv(65536))
        writer.wait()
        if tls:
            stream.shutdown(socket.SHUT_WR)
            assert stream.recv(100) == b" last"
"""


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_streams_work_on_green_threads(kind, tls_engine, tls):
    with serving() as plain:
        engine = tls_engine if kind == "tls" else plain
        engine.answers[START] = echo
        files = (tls.ca_file, tls.cert_file, tls.key_file)
        arguments = files if kind == "tls" else ("", "", "")
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", GREEN, engine.host, *arguments],
            env={**os.environ, "PYTHONPATH": ROOT},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
