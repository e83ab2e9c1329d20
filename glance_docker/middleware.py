# SPDX-License-Identifier: Apache-2.0
"""WSGI middleware for Glance that lets clients look up names with a colon.

Clients look up an image with ``GET /v2/images?name=NAME``. In ``demo:latest``, Glance
takes the part before the colon for an operator, as in ``name=in:a,b``, and rejects it
as unknown. The middleware adds the operator ``eq`` to such names.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from urllib import parse

# The operators that Glance has for names.
_OPERATORS = ("eq", "in")

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def filter_factory(
    global_conf: dict[str, str], **local_conf: str
) -> Callable[[App], App]:
    """Return the filter, as ``paste.filter_factory`` of paste.deploy."""

    def filtered(app: App) -> App:
        def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ["QUERY_STRING"] = with_operators(environ.get("QUERY_STRING", ""))
            return app(environ, start_response)

        return call

    return filtered


def with_operators(query: str) -> str:
    """Return the query string with an operator in front of each name with a colon."""
    if "name=" not in query:
        return query
    parts = []
    for part in query.split("&"):
        key, _, value = part.partition("=")
        operator, colon, _ = parse.unquote_plus(value).partition(":")
        if key == "name" and colon and operator not in _OPERATORS:
            part = f"name=eq:{value}"
        parts.append(part)
    return "&".join(parts)
