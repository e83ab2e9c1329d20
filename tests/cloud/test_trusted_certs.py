# SPDX-License-Identifier: Apache-2.0
"""Signed images, and servers that require trusted certificates."""

from __future__ import annotations

import base64
import dataclasses
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from tests import archives
from tests.cloud import key_manager

PEM = serialization.Encoding.PEM


@dataclasses.dataclass
class Authority:
    """A key and its certificate, which sign certificates or images.

    :ivar id: the certificate's ID in Barbican
    """

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey
    id: str = ""


def authority(name, issuer=None):
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    usage = dict.fromkeys(
        [
            "content_commitment",
            "crl_sign",
            "data_encipherment",
            "decipher_only",
            "digital_signature",
            "encipher_only",
            "key_agreement",
            "key_encipherment",
        ],
        False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=not issuer, path_length=None), True)
        .add_extension(x509.KeyUsage(key_cert_sign=not issuer, **usage), True)
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Authority(certificate, key)


@pytest.fixture
def keys(tmp_path):
    with key_manager.running(tmp_path):
        yield


def test_an_image_must_be_signed_with_a_trusted_certificate(
    keys, boot, demo, engine, upload
):
    trusted, stranger = authority("trusted"), authority("stranger")
    signer = authority("signer", trusted)
    for one in (trusted, stranger, signer):
        pem = one.certificate.public_bytes(PEM)
        one.id = key_manager.store(demo.auth_token, pem)

    def signed(content, signature_of):
        signature = signer.key.sign(
            signature_of,
            padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.MAX_LENGTH),
            hashes.SHA256(),
        )
        name = upload(content)
        demo.image.update_image(
            demo.image.find_image(name).id,
            img_signature=base64.b64encode(signature).decode(),
            img_signature_hash_method="SHA-256",
            img_signature_key_type="RSA-PSS",
            img_signature_certificate_uuid=signer.id,
        )
        return name

    def started(image, certificate, until):
        return boot(image, trusted_image_certificates=[certificate.id], until=until)

    def image(number):
        return archives.busybox_archive(files={"number": b"%d\n" % number})

    good = signed(image(1), image(1))
    before = {found["Id"] for found in engine.list_images()}
    assert "certificate validation failed" in fault(started(good, stranger, "ERROR"))
    changed = signed(image(2), image(3))
    assert "signature verification failed" in fault(started(changed, trusted, "ERROR"))
    assert {found["Id"] for found in engine.list_images()} == before
    server = started(good, trusted, "ACTIVE")
    assert server.run("cat /number") == "1\n"
    # An image that is already on the host is verified, too.
    assert "certificate validation failed" in fault(started(good, stranger, "ERROR"))


def fault(server):
    return server.show().fault["message"]
