# SPDX-License-Identifier: Apache-2.0
"""Fixtures for an HTTP server in place of an engine."""

from __future__ import annotations

import queue
import ssl

import pytest

from docker_engine.client import DockerClient
from tests import certificates
from tests.unit.docker_engine.http_engine import serving


@pytest.fixture
def engine(tmp_path, monkeypatch):
    # A socket path has at most 108 bytes; pytest's directories are longer.
    monkeypatch.chdir(tmp_path)
    with serving("Engine of Tests.sock") as engine:
        yield engine


@pytest.fixture
def client(engine):
    return DockerClient(engine.host)


@pytest.fixture
def happen(engine):
    """A queue of what the engine sends as events; None drops the connection."""
    pending: queue.Queue[bytes | None] = queue.Queue()
    engine.answers["GET /events"] = lambda handler: handler.stream(
        iter(pending.get, None), end=False
    )
    yield pending
    pending.put(None)


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    return certificates.make(tmp_path_factory.mktemp("pki"))


@pytest.fixture
def tls_engine(pki):
    """An engine that requires client certificates, like dockerd --tlsverify."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / "server.pem", pki / "server-key.pem")
    context.load_verify_locations(pki / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    with serving() as engine:
        engine.socket = context.wrap_socket(engine.socket, server_side=True)
        yield engine


@pytest.fixture
def tls(pki):
    return certificates.client(pki)
