# SPDX-License-Identifier: Apache-2.0
"""Layers must be complete tar archives, uncompressed or gzip-compressed."""

from __future__ import annotations

import gzip

import pytest

from tests.unit.docker_engine.archive.samples import LAYERS
from tests.unit.docker_engine.archive.samples import endless
from tests.unit.docker_engine.archive.samples import layer_refusal
from tests.unit.docker_engine.archive.samples import loaded
from tests.unit.docker_engine.archive.samples import oci
from tests.unit.docker_engine.archive.samples import refusal
from tests.unit.docker_engine.archive.samples import rewrite
from tests.unit.docker_engine.archive.samples import tar


def test_corrupt_gzip_data_is_rejected():
    blob = gzip.compress(LAYERS[1])
    assert "truncated gzip data" in refusal(oci(LAYERS[1:], blobs=[blob[:-9]]))
    assert "corrupt gzip data" in refusal(oci(LAYERS[1:], blobs=[blob + b"more"]))
    blob = blob[:30] + bytes(10) + blob[40:]
    assert "corrupt gzip data" in refusal(oci(LAYERS[1:], blobs=[blob]))


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"\x5a\x2a\x4d\x18", "zstd"),
    ],
)
def test_other_compressions_are_rejected(start, name):
    why = layer_refusal(start + LAYERS[0])
    assert f"compressed with {name}; save the image with uncompressed" in why


def test_a_tar_that_looks_compressed_to_an_engine_is_rejected():
    assert "compressed with bzip2" in layer_refusal(tar({"BZh9": b""}))


def test_a_truncated_layer_is_rejected():
    assert "truncated in the middle of a member" in layer_refusal(LAYERS[1][:2000])
    assert "truncated in the middle of a member" in layer_refusal(LAYERS[1][:2048])


def test_a_layer_needs_no_end_of_archive_marker():
    layer = endless(LAYERS[0])
    assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]


def test_a_layer_that_is_not_a_tar_archive_is_rejected():
    assert "not a tar archive" in layer_refusal(b"hello" * 1000)
    assert "not a tar archive" in layer_refusal(b"")
