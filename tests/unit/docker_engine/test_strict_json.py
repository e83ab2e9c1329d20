# SPDX-License-Identifier: Apache-2.0
"""JSON that Go would read differently is rejected, or marked as ambiguous."""

from __future__ import annotations

import pytest

from docker_engine import strict_json

AMBIGUOUS = [
    b'{"a": 1, "a": 2}',
    b'{"layers": 1, "Layers": 2}',
    b'[{"x": {"KEY": 1, "key": 2}}]',
    # Go compares keys under Unicode case folding: these are "k" and "s".
    '{"key": 1, "\u212aey": 2}'.encode(),
    '{"rootfs": 1, "rootf\u017f": 2}'.encode(),
]


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"{}", {}),
        (b'{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        (b"[]", []),
        (b"7", 7),
        ('"\u00e4"'.encode(), "\u00e4"),
        (b'[{"a": 1}, {"A": 2}]', [{"a": 1}, {"A": 2}]),
    ],
)
def test_unambiguous_documents_are_parsed(content, value):
    assert strict_json.loads(content) == value
    assert strict_json.loads(content, allow_ambiguous=True) == value


@pytest.mark.parametrize("content", AMBIGUOUS)
def test_keys_that_go_could_confuse_are_rejected(content):
    with pytest.raises(ValueError, match="differ only in case"):
        strict_json.loads(content)


def test_ambiguous_objects_are_marked_where_they_are_allowed():
    content = b'{"labels": {"a": 1, "A": 2}, "rootfs": {"type": "layers"}}'
    found = strict_json.loads(content, allow_ambiguous=True)
    assert not found.ambiguous
    assert found["labels"].ambiguous
    assert not found["rootfs"].ambiguous


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"{'a': 1}", b"[" * 100_000, b'{"a":' * 100_000]
)
@pytest.mark.parametrize("allow", [False, True])
def test_what_is_not_json_is_a_value_error(content, allow):
    with pytest.raises(ValueError, match=r".+"):
        strict_json.loads(content, allow_ambiguous=allow)


@pytest.mark.parametrize("allow", [False, True])
def test_the_number_of_objects_is_bounded(allow):
    most = b"[" + b"{}," * (strict_json.MAX_OBJECTS - 1) + b"{}"
    assert strict_json.loads(most + b"]", allow_ambiguous=allow)
    with pytest.raises(ValueError, match="too many objects"):
        strict_json.loads(most + b",{}]", allow_ambiguous=allow)


def test_untrusted_values_are_short_in_messages():
    assert strict_json.short("a\nb") == r"'a\nb'"
    assert len(strict_json.short("x" * 10_000)) == 100
