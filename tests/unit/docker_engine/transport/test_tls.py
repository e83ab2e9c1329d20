# SPDX-License-Identifier: Apache-2.0
"""Certificates of engines and clients."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.transport.tls import TLSConfig
from tests.unit.docker_engine.http_engine import TIMEOUT
from tests.unit.docker_engine.http_engine import Follower
from tests.unit.docker_engine.http_engine import serving


@pytest.fixture(scope="session")
def pki(tmp_path_factory):
    """A directory with certificates: {ca,server,client,stranger}{,-key}.pem.

    Nobody trusts the stranger, who signed for itself.
    """
    directory = tmp_path_factory.mktemp("pki")
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)

    def make(name, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        issuer_name, issuer_key = issuer or (subject, key)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(x509.BasicConstraints(issuer is None, None), critical=True)
            .sign(issuer_key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (directory / f"{name}.pem").write_bytes(certificate.public_bytes(pem))
        (directory / f"{name}-key.pem").write_bytes(
            key.private_bytes(
                pem,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return subject, key

    ca = make("ca")
    make("server", ca)
    make("client", ca)
    make("stranger")
    return directory


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
    return TLSConfig(
        ca_file=str(pki / "ca.pem"),
        cert_file=str(pki / "client.pem"),
        key_file=str(pki / "client-key.pem"),
    )


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
