# SPDX-License-Identifier: Apache-2.0
"""Glance finds images whose names have a colon."""

from __future__ import annotations

import pytest

from glance_docker import middleware


@pytest.mark.parametrize(
    ("query", "seen"),
    [
        ("name=demo:latest", "name=eq:demo:latest"),
        ("name=demo%3Alatest", "name=eq:demo%3Alatest"),
        ("name=host:5000/a:1", "name=eq:host:5000/a:1"),
        ("limit=5&name=a:1&sort=name", "limit=5&name=eq:a:1&sort=name"),
        ("name=a:1&name=b:2", "name=eq:a:1&name=eq:b:2"),
        ("name=:", "name=eq::"),
        ("name=a+b:1", "name=eq:a+b:1"),
        # Unchanged
        ("", ""),
        ("name=demo", "name=demo"),
        ("name=", "name="),
        ("name", "name"),
        ("name=eq:demo:latest", "name=eq:demo:latest"),
        ("name=in:a,b", "name=in:a,b"),
        ("name=eq%3Ademo", "name=eq%3Ademo"),
        ("limit=5", "limit=5"),
        ("created_at=gt:2026", "created_at=gt:2026"),
        ("os_name=a:1", "os_name=a:1"),
        ("filter=name=a:1", "filter=name=a:1"),
    ],
)
def test_names_with_a_colon_get_an_operator(query, seen):
    assert middleware.with_operators(query) == seen


@pytest.mark.parametrize("environ", [{}, {"QUERY_STRING": "name=a:1"}])
def test_the_rest_of_a_request_is_unchanged(environ):
    def app(environ, start_response):
        return [environ["QUERY_STRING"].encode(), environ["PATH_INFO"].encode()]

    filtered = middleware.filter_factory({})(app)
    answer = filtered({"PATH_INFO": "/v2/images", **environ}, None)
    query = b"name=eq:a:1" if environ else b""
    assert answer == [query, b"/v2/images"]
