# SPDX-License-Identifier: Apache-2.0
"""Certificates of an engine on 127.0.0.1, and of its clients."""

from __future__ import annotations

import datetime
import ipaddress
import pathlib
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from docker_engine.transport.tls import TLSConfig

_DAY = datetime.timedelta(days=1)


def make(directory: pathlib.Path) -> pathlib.Path:
    """Write {ca,server,client,stranger}{,-key}.pem into a directory, and return it.

    Nobody trusts the stranger, who signed for itself.
    """
    ca = _make(directory, "ca")
    _make(directory, "server", ca)
    _make(directory, "client", ca)
    _make(directory, "stranger")
    return directory


def client(directory: pathlib.Path) -> TLSConfig:
    """Return the settings of a client with these certificates."""
    return TLSConfig(
        ca_file=str(directory / "ca.pem"),
        cert_file=str(directory / "client.pem"),
        key_file=str(directory / "client-key.pem"),
    )


def _make(directory: pathlib.Path, name: str, issuer: Any = None) -> Any:
    now = datetime.datetime.now(datetime.UTC)
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
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
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
