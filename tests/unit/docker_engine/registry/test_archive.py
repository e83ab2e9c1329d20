# SPDX-License-Identifier: Apache-2.0
"""An archive is made of a registry's blobs, and its size is known in advance."""

from __future__ import annotations

import gzip
import io
import json
import tarfile

import pytest

from docker_engine.archive import ImageArchive
from docker_engine.registry import BadImage
from docker_engine.registry import Descriptor
from docker_engine.registry import Image
from docker_engine.registry import Registry
from docker_engine.registry import RegistryArchive
from tests import archives
from tests.unit.docker_engine.registry.samples import CONFIG
from tests.unit.docker_engine.registry.samples import HOST
from tests.unit.docker_engine.registry.samples import ONE
from tests.unit.docker_engine.registry.samples import TAR
from tests.unit.docker_engine.registry.samples import URL
from tests.unit.docker_engine.registry.samples import digest_of
from tests.unit.docker_engine.registry.samples import manifest
from tests.unit.docker_engine.registry.samples import part
from tests.unit.docker_engine.registry.samples import serve


def image_of(http, *layers):
    """Put an image and its blobs into the mock registry, and resolve it."""
    diff_ids = [
        digest_of(gzip.decompress(c) if c.startswith(b"\x1f\x8b") else c)
        for c in layers
    ]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    for blob in (config, *layers):
        http.get(f"{URL}/blobs/{digest_of(blob)}", content=blob)
    parts = [part(layer, TAR) for layer in layers]
    serve(http, manifest(config=part(config, CONFIG), layers=parts))
    return Registry(HOST).resolve("team/app", "1.0")


PLAIN = archives.tar({"etc/motd": b"Hello!\n"})

ZIPPED = gzip.compress(archives.tar({"etc/issue": b"Debian\n"}))


def test_the_archive_is_a_valid_image_archive(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    archive = RegistryArchive(registry, image, "app:1.0")
    checked = ImageArchive(archive, "app:1.0", "amd64")
    assert b"".join(checked)
    assert checked.image_id == image.config.digest


def test_the_manifest_is_last_in_the_archive(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    content = b"".join(RegistryArchive(registry, image, "app:1.0"))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
        last = archive.extractfile(names[-1])
        assert json.load(last) == [
            {
                "Config": "config.json",
                "RepoTags": ["app:1.0"],
                "Layers": ["1.tar", "2.tar"],
            }
        ]
    assert names == ["config.json", "1.tar", "2.tar", "manifest.json"]


def test_a_repeated_layer_is_stored_once(http, registry):
    image = image_of(http, PLAIN, ZIPPED, PLAIN)
    archive = RegistryArchive(registry, image, "")
    content = b"".join(archive)
    assert len(content) == archive.size
    members = archives.members(content)
    assert list(members) == ["config.json", "1.tar", "2.tar", "manifest.json"]
    [told] = json.loads(members["manifest.json"])
    assert told["Layers"] == ["1.tar", "2.tar", "1.tar"]
    assert told["RepoTags"] is None


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1024])
@pytest.mark.parametrize("tag", ["", "app:1.0", "a" * 500, "äpp:1"])
def test_the_size_is_known_in_advance(http, registry, length, tag):
    archive = RegistryArchive(registry, image_of(http, b"x" * length, PLAIN), tag)
    for _ in range(2):
        assert sum(map(len, archive)) == archive.size


def test_the_size_is_known_without_reading_a_blob(http, registry):
    image = image_of(http, PLAIN)
    http.reset_mock()
    huge = Descriptor(ONE.digest, 2**40, TAR)
    image = Image(image.repository, image.digest, image.config, (huge,))
    assert RegistryArchive(registry, image, "").size > 2**40
    assert not http.called


def test_a_corrupt_blob_breaks_off_the_archive(http, registry):
    image = image_of(http, PLAIN, ZIPPED)
    http.get(f"{URL}/blobs/{digest_of(ZIPPED)}", content=bytes(len(ZIPPED)))
    content: list[bytes] = []
    with pytest.raises(BadImage):
        content.extend(RegistryArchive(registry, image, ""))
    assert content
    assert b"manifest.json" not in b"".join(content)
