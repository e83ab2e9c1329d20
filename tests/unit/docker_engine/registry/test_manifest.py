# SPDX-License-Identifier: Apache-2.0
"""Manifests and indexes are validated."""

from __future__ import annotations

import io
import json

import pytest

from docker_engine.registry import BadImage
from docker_engine.registry import Descriptor
from docker_engine.registry import Image
from tests.unit.docker_engine.registry.samples import CONFIG
from tests.unit.docker_engine.registry.samples import GZIP
from tests.unit.docker_engine.registry.samples import LIST
from tests.unit.docker_engine.registry.samples import OCI
from tests.unit.docker_engine.registry.samples import OCI_INDEX
from tests.unit.docker_engine.registry.samples import SCHEMA2
from tests.unit.docker_engine.registry.samples import TAR
from tests.unit.docker_engine.registry.samples import URL
from tests.unit.docker_engine.registry.samples import digest_of
from tests.unit.docker_engine.registry.samples import manifest
from tests.unit.docker_engine.registry.samples import part
from tests.unit.docker_engine.registry.samples import serve


@pytest.mark.parametrize("kind", [SCHEMA2, OCI])
def test_an_image_is_described_by_its_manifest(http, registry, kind):
    digest = serve(http, manifest(kind), kind)
    assert registry.resolve("team/app", "1.0") == Image(
        repository="team/app",
        digest=digest,
        config=Descriptor(digest_of(b"{}"), 2, CONFIG),
        layers=(
            Descriptor(digest_of(b"one"), 3, GZIP),
            Descriptor(digest_of(b"two"), 3, TAR),
        ),
    )
    accepted = http.last_request.headers["Accept"]
    assert all(kind in accepted for kind in (SCHEMA2, OCI, LIST, OCI_INDEX))


def test_the_media_type_may_be_in_the_header_only(http, registry):
    content = manifest(OCI)
    del content["mediaType"]
    serve(http, content, f"{OCI}; charset=utf-8")
    assert registry.resolve("team/app", "1.0")


def test_a_manifest_must_have_the_requested_digest(http, registry):
    digest = digest_of(json.dumps(manifest()).encode())
    serve(http, manifest(), reference=digest)
    assert registry.resolve("team/app", digest).digest == digest
    serve(http, manifest(schemaVersion=3), reference=digest)
    with pytest.raises(BadImage, match="digest"):
        registry.resolve("team/app", digest)


def test_at_most_four_mebibytes_of_a_manifest_are_read(http, registry):
    class Endless(io.RawIOBase):
        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            self.given += len(buffer)
            buffer[:] = b" " * len(buffer)
            return len(buffer)

    endless = Endless()
    http.get(f"{URL}/manifests/1.0", body=endless)
    with pytest.raises(BadImage, match="larger"):
        registry.resolve("team/app", "1.0")
    assert endless.given < 5 * 1024 * 1024


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"layers": [], "layers": []}',
        b'{"layers": [], "Layers": []}',
        manifest(OCI),
        manifest(mediaType=["a"]),
        manifest(manifests=[]),
        manifest(config=None),
        manifest(config=part(b"{}", "application/vnd.cncf.helm.config.v1+json")),
        manifest(config=part(b"{}", CONFIG, size=1024 * 1024 + 1)),
        manifest(layers=None),
        manifest(layers=[]),
        manifest(layers=[part(b"one", TAR)] * 128),
        manifest(layers=["one"]),
        manifest(layers=[part(b"one", TAR, size=-1)]),
        manifest(layers=[part(b"one", TAR, size=True)]),
        manifest(layers=[part(b"one", TAR, size=3.0)]),
        manifest(layers=[part(b"one", TAR, size="3")]),
        manifest(layers=[part(b"one", TAR, size=2**63)]),
        manifest(layers=[part(b"one", TAR, digest="sha256:" + "A" * 64)]),
        manifest(layers=[part(b"one", TAR, digest="sha512:" + "a" * 128)]),
        manifest(layers=[part(b"one", TAR, digest="sha256:../../x")]),
        manifest(layers=[part(b"one", TAR, digest=None)]),
        manifest(layers=[part(b"one", None)]),
        manifest(layers=[part(b"one", "application/octet-stream")]),
        manifest(layers=[part(b"one", TAR), part(b"one", TAR, size=4)]),
    ],
)
def test_a_malformed_manifest_is_rejected(http, registry, content):
    serve(http, content)
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")


def test_a_schema_1_manifest_is_rejected(http, registry):
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    serve(http, {"schemaVersion": 1}, kind)
    with pytest.raises(BadImage, match="v1"):
        registry.resolve("team/app", "1.0")


def test_layers_compressed_with_zstd_are_rejected(http, registry):
    layer = part(b"one", "application/vnd.oci.image.layer.v1.tar+zstd")
    serve(http, manifest(layers=[layer]))
    with pytest.raises(BadImage, match="zstd"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize(
    "layer",
    [
        part(b"one", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
        part(b"one", "application/vnd.oci.image.layer.nondistributable.v1.tar"),
        part(b"one", TAR, urls=["https://example.com/one"]),
    ],
)
def test_layers_stored_outside_the_registry_are_rejected(http, registry, layer):
    serve(http, manifest(layers=[layer]))
    with pytest.raises(BadImage, match="outside the registry"):
        registry.resolve("team/app", "1.0")


def entry(content, architecture="amd64", os="linux", kind=SCHEMA2, **more):
    platform = {"os": os, "architecture": architecture}
    return part(content, kind, platform=platform, **more)


@pytest.mark.parametrize("kind", [LIST, OCI_INDEX])
def test_the_image_for_the_architecture_is_selected(http, registry, kind):
    amd64 = json.dumps(manifest()).encode()
    arm64 = json.dumps(manifest(layers=[part(b"arm", TAR)])).encode()
    entries = [
        entry(b"", "unknown", "unknown"),
        entry(b"", "amd64", "windows"),
        entry(amd64),
        entry(arm64, "arm64"),
    ]
    index = {"schemaVersion": 2, "mediaType": kind, "manifests": entries}
    digest = serve(http, index, kind)
    for content in (amd64, arm64):
        serve(http, content, reference=digest_of(content))
    image = registry.resolve("team/app", "1.0")
    assert image.digest == digest
    assert len(image.layers) == 2
    image = registry.resolve("team/app", "1.0", "arm64")
    assert image.digest == digest
    assert [layer.digest for layer in image.layers] == [digest_of(b"arm")]
    with pytest.raises(BadImage, match="linux/s390x"):
        registry.resolve("team/app", "1.0", "s390x")


@pytest.mark.parametrize("size", [1, 5 * 1024 * 1024])
def test_the_selected_manifest_must_have_its_size(http, registry, size):
    content = json.dumps(manifest()).encode()
    index = {"mediaType": LIST, "manifests": [entry(content, size=size)]}
    serve(http, index, LIST)
    serve(http, content, reference=digest_of(content))
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")


def test_the_selected_manifest_must_have_its_digest(http, registry):
    content = json.dumps(manifest()).encode()
    serve(http, {"mediaType": LIST, "manifests": [entry(content)]}, LIST)
    other = content.replace(b"2", b"3", 1)
    serve(http, other, reference=digest_of(content))
    with pytest.raises(BadImage, match="digest"):
        registry.resolve("team/app", "1.0")


def test_an_index_in_an_index_is_rejected(http, registry):
    inner = json.dumps({"mediaType": LIST, "manifests": []}).encode()
    serve(http, {"mediaType": LIST, "manifests": [entry(inner)]}, LIST)
    serve(http, inner, LIST, reference=digest_of(inner))
    with pytest.raises(BadImage, match="not an image"):
        registry.resolve("team/app", "1.0")


@pytest.mark.parametrize("entries", [None, {}, [1], [{"platform": 1}], []])
def test_a_malformed_index_is_rejected(http, registry, entries):
    serve(http, {"mediaType": LIST, "manifests": entries}, LIST)
    with pytest.raises(BadImage):
        registry.resolve("team/app", "1.0")
