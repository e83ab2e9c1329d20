# SPDX-License-Identifier: Apache-2.0
"""Pulling images from a real registry."""

from __future__ import annotations

import gzip
import hashlib
import json

import pytest

from docker_engine import registry as registries
from docker_engine.archive import ImageArchive
from docker_engine.credentials import credentials
from docker_engine.registry import Registry
from docker_engine.registry import RegistryArchive
from tests import archives
from tests.functional.registry_server import RegistryServer

INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

LAYER = archives.tar({"etc/motd": b"Hello!\n"})
OTHER = archives.tar({"etc/issue": b"Debian\n" * 1000})


@pytest.fixture(scope="module")
def server():
    with RegistryServer() as server:
        yield server


@pytest.fixture
def registry(server):
    auth = (server.user, server.password)
    return Registry(server.host, auth=auth, ca_file=server.ca_file)


def configuration(*layers):
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    return json.dumps(image).encode()


def push(server, tag, *layers):
    """Push an image; all layers but the last are compressed."""
    compressed = [gzip.compress(layer) for layer in layers[:-1]] + [layers[-1]]
    return server.push("team/app", tag, configuration(*layers), compressed)


def test_an_image_is_found_by_its_tag(server, registry):
    digest = push(server, "1.0", LAYER, OTHER)
    image = registry.resolve("team/app", "1.0")
    assert image.repository == "team/app"
    assert image.digest == digest
    assert image.config.size == len(configuration(LAYER, OTHER))
    assert [layer.size for layer in image.layers][1:] == [len(OTHER)]


def test_an_image_is_found_by_its_digest(server, registry):
    digest = push(server, "1.0", LAYER, OTHER)
    image = registry.resolve("team/app", digest)
    assert image == registry.resolve("team/app", "1.0")


def test_an_image_from_an_index_has_the_digest_of_the_index(server, registry):
    digest = push(server, "amd64", LAYER)
    alone = registry.resolve("team/app", digest)
    path = f"/v2/team/app/manifests/{digest}"
    size = len(registry._get("team/app", path, {"Accept": "*/*"}).content)
    entry = {
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "digest": digest,
        "size": size,
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    of_index = server.push_manifest("team/app", "many", index)
    image = registry.resolve("team/app", "many")
    assert image.digest == of_index
    assert image.layers == alone.layers
    with pytest.raises(registries.BadImage, match="linux/arm64"):
        registry.resolve("team/app", "many", "arm64")


def test_a_missing_tag_or_repository_is_not_found(server, registry):
    push(server, "1.0", LAYER)
    with pytest.raises(registries.NotFound):
        registry.resolve("team/app", "2.0")
    with pytest.raises(registries.NotFound):
        registry.resolve("team/none", "1.0")


def test_a_missing_layer_is_not_found(server, registry):
    push(server, "1.0", LAYER)
    missing = registries.Descriptor("sha256:" + "0" * 64, 1, "")
    with pytest.raises(registries.NotFound):
        list(registry.blob("team/app", missing))


def test_a_wrong_password_is_refused(server):
    stranger = Registry(
        server.host, auth=(server.user, "wrong"), ca_file=server.ca_file
    )
    with pytest.raises(registries.Refused):
        stranger.resolve("team/app", "1.0")


def test_a_registry_with_passwords_refuses_anonymous_access(server):
    with pytest.raises(registries.Refused, match="password"):
        Registry(server.host, ca_file=server.ca_file).resolve("team/app", "1.0")


def test_a_certificate_of_an_unknown_authority_is_refused(server):
    auth = (server.user, server.password)
    with pytest.raises(registries.Refused, match="certificate"):
        Registry(server.host, auth=auth).resolve("team/app", "1.0")


def test_an_unknown_authority_is_accepted_without_verification(server):
    push(server, "1.0", LAYER)
    auth = (server.user, server.password)
    Registry(server.host, auth=auth, verify=False).resolve("team/app", "1.0")


def test_a_closed_port_is_unreachable(server):
    with pytest.raises(registries.Unreachable):
        Registry("198.51.100.2:5001").resolve("team/app", "1.0")


def test_the_password_from_docker_login_is_used(server, tmp_path):
    push(server, "1.0", LAYER)
    server.write_auth_file(tmp_path / "config.json")
    auth = credentials(str(tmp_path / "config.json"), server.host)
    registry = Registry(server.host, auth=auth, ca_file=server.ca_file)
    assert registry.resolve("team/app", "1.0")


def test_the_archive_is_valid_and_has_the_predicted_size(server, registry):
    push(server, "1.0", LAYER, OTHER)
    image = registry.resolve("team/app", "1.0")
    archive = RegistryArchive(registry, image, "app:1.0")
    content = b"".join(archive)
    assert len(content) == archive.size
    checked = ImageArchive([content], "app:1.0", "amd64")
    assert b"".join(checked)
    assert checked.image_id == image.config.digest
    assert len(checked.diff_ids) == 2


def test_a_repeated_layer_is_transferred_once(server, registry):
    layer = gzip.compress(LAYER)
    server.push("team/app", "twice", configuration(LAYER, LAYER), [layer, layer])
    image = registry.resolve("team/app", "twice")
    assert len(image.layers) == 2
    before = len(server.requests)
    archive = RegistryArchive(registry, image, "app:twice")
    content = b"".join(archive)
    assert len(content) == archive.size
    assert b"".join(ImageArchive([content], "app:twice"))
    blobs = [asked for asked in server.requests[before:] if "/blobs/" in asked]
    assert blobs == [
        f"GET /v2/team/app/blobs/{image.config.digest}",
        f"GET /v2/team/app/blobs/{image.layers[0].digest}",
    ]
