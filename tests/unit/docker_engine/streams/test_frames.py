# SPDX-License-Identifier: Apache-2.0
"""Framed output is the payloads of its frames."""

from __future__ import annotations

import pytest

from docker_engine.streams.frames import frames


def frame(stream: int, payload: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload


def test_empty_output_has_no_frames():
    assert list(frames(b"")) == []


def test_payloads_of_both_streams_are_kept_in_order():
    content = frame(1, b"out") + frame(2, b"err") + frame(1, b"") + frame(1, b"more")
    assert list(frames(content)) == [b"out", b"err", b"", b"more"]


def test_payloads_may_look_like_headers():
    payload = frame(1, b"inner") * 3
    assert list(frames(frame(1, payload))) == [payload]


@pytest.mark.parametrize("size", [255, 256, 65536])
def test_the_size_of_a_payload_is_big_endian(size):
    payload = b"x" * size
    assert list(frames(frame(1, payload) + frame(2, b"end"))) == [payload, b"end"]


def test_a_truncated_frame_yields_what_there_is():
    assert list(frames(frame(1, b"hello")[:-2])) == [b"hel"]
    assert list(frames(frame(1, b"hello")[:8])) == [b""]
