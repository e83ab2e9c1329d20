# SPDX-License-Identifier: Apache-2.0
"""Registry credentials, from the ``config.json`` that ``docker login`` writes."""

from __future__ import annotations

import base64
import json
from typing import Any


def credentials(path: str | None, registry: str) -> tuple[str, str] | None:
    """Look up the credentials for a registry.

    :param path: a Docker ``config.json``; None if there is none
    :param registry: ``host`` or ``host:port``
    :returns: user name and password; None if the file has no entry for the registry
    :raises ValueError: if the file or the entry cannot be read. The message contains
        nothing of the file's content.
    """
    if path is None:
        return None
    for name, entry in _entries(path).items():
        if _host(name) == registry:
            return _login(entry, f"{path}: the entry for {registry}")
    return None


def _entries(path: str) -> dict[str, Any]:
    # Errors are not chained: a JSON error carries the file's content.
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} is not valid JSON") from None
    auths = content.get("auths", {}) if isinstance(content, dict) else None
    if not isinstance(auths, dict):
        raise ValueError(f"{path} is not a Docker config.json")
    return auths


def _host(name: str) -> str:
    """Return ``host:port`` of a key, which may be a URL."""
    return name.rpartition("://")[2].partition("/")[0]


def _login(entry: Any, what: str) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise ValueError(f"{what} is not a JSON object")
    if entry.get("auth"):
        name, colon, secret = _decoded(entry["auth"], what).partition(":")
        if not name or not colon:
            raise ValueError(f'{what}: "auth" is not base64 of user:password')
        # Docker itself may write zero bytes after the password.
        return name, secret.rstrip("\0")
    user, password = entry.get("username"), entry.get("password")
    if not user and not password:
        raise ValueError(
            f'{what} has neither "auth" nor "username" and "password"; '
            "credential helpers are not supported"
        )
    if not isinstance(user, str) or not isinstance(password, str) or not user:
        raise ValueError(f'{what}: "username" or "password" is not a string')
    return user, password


def _decoded(auth: Any, what: str) -> str:
    try:
        return base64.b64decode(auth, validate=True).decode()
    except (TypeError, ValueError):
        raise ValueError(f'{what}: "auth" is not base64 of UTF-8 text') from None
