# SPDX-License-Identifier: Apache-2.0
"""A filter in front of Glance's API, for names that have a colon.

Clients look an image up by ``GET /v2/images?name=NAME``. For ``demo:latest``
Glance takes the part before the colon for an operator, as in ``name=in:a,b``, and
refuses it as one that it does not know. What is no operator is a name here.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any
from urllib import parse

# Those that Glance has for names.
_OPERATORS = ("eq", "in")

App = Callable[[dict[str, Any], Any], Iterable[bytes]]


def filter_factory(
    global_conf: dict[str, str], **local_conf: str
) -> Callable[[App], App]:
    """Entry point of paste.deploy, ``paste.filter_factory``."""

    def filtered(app: App) -> App:
        def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            environ["QUERY_STRING"] = with_operators(environ.get("QUERY_STRING", ""))
            return app(environ, start_response)

        return call

    return filtered


def with_operators(query: str) -> str:
    """Return a query string in which each name with a colon has an operator."""
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
