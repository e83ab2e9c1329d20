# SPDX-License-Identifier: Apache-2.0
"""Certificates of engines and clients."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from tests.unit.docker_engine.http_engine import TIMEOUT
from tests.unit.docker_engine.http_engine import Follower


def test_a_client_certificate_authenticates(tls_engine, tls):
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


def test_certificate_and_key_may_be_in_one_file(tls_engine, tls, pki, tmp_path):
    both = tmp_path / "both.pem"
    names = ("client.pem", "client-key.pem")
    both.write_bytes(b"".join((pki / name).read_bytes() for name in names))
    tls = dataclasses.replace(tls, cert_file=str(both), key_file=None)
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


@pytest.mark.parametrize("ca", ["stranger.pem", None])
def test_an_untrusted_certificate_is_rejected(tls_engine, tls, pki, ca, monkeypatch):
    # Not even if the environment trusts it.
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pki / "ca.pem"))
    tls = dataclasses.replace(tls, ca_file=ca and str(pki / ca))
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == []


def test_a_certificate_for_another_name_is_rejected(tls_engine, tls):
    host = tls_engine.host.replace("127.0.0.1", "localhost")
    with pytest.raises(errors.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        DockerClient(host, tls=tls).ping()


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off(tls_engine, tls):
    tls = dataclasses.replace(tls, ca_file=None, verify=False)
    DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == ["GET /_ping"]


@pytest.mark.parametrize("own", [None, "stranger"])
def test_a_client_without_a_trusted_certificate_is_rejected(tls_engine, tls, pki, own):
    tls = dataclasses.replace(
        tls,
        cert_file=own and str(pki / f"{own}.pem"),
        key_file=own and str(pki / f"{own}-key.pem"),
    )
    with pytest.raises(errors.Unreachable):
        DockerClient(tls_engine.host, tls=tls).ping()
    assert tls_engine.calls == []


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_a_missing_file_is_named_in_the_error(tls_engine, tls, field):
    tls = dataclasses.replace(tls, **{field: "/none.pem"})
    with pytest.raises(errors.DockerError, match=r"/none\.pem"):
        DockerClient(tls_engine.host, tls=tls).ping()


def test_closing_ends_a_blocked_iteration_over_tls(tls_engine, tls):
    over = threading.Event()

    def wait(handler):
        def events():
            yield b'{"n": 1}\n'
            over.wait(TIMEOUT)

        handler.stream(events())

    tls_engine.answers["GET /events"] = wait
    stream = DockerClient(tls_engine.host, tls=tls).events()
    follower = Follower(stream)
    assert follower.next() == {"n": 1}
    stream.close()
    assert follower.next() == "end"
    over.set()
