# SPDX-License-Identifier: Apache-2.0
"""Layers."""

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


def test_gzip_that_is_broken():
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
def test_other_compressions(start, name):
    why = layer_refusal(start + LAYERS[0])
    assert f"compressed with {name}; save the image with uncompressed" in why


def test_a_tar_that_an_engine_would_take_for_compressed():
    assert "compressed with bzip2" in layer_refusal(tar({"BZh9": b""}))


def test_cut_short():
    assert "truncated in the middle of a member" in layer_refusal(LAYERS[1][:2000])
    assert "truncated in the middle of a member" in layer_refusal(LAYERS[1][:2048])


def test_without_an_end_mark():
    layer = endless(LAYERS[0])
    assert loaded(rewrite(tar(oci([layer]))))[1] == [layer]


def test_not_a_tar():
    assert "not a tar archive" in layer_refusal(b"hello" * 1000)
    assert "not a tar archive" in layer_refusal(b"")
