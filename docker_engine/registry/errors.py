# SPDX-License-Identifier: Apache-2.0
"""Errors of a registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from docker_engine.printable import printable


class RegistryError(Exception):
    """The registry did not give what it was asked for.

    The message begins with the name of the image or blob that it is about.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class NotFound(RegistryError):
    """The registry has no such image, or lacks a part of it."""


class Refused(RegistryError):
    """The registry denies access, or cannot be trusted."""


class Unreachable(RegistryError):
    """No connection, a lost connection, a timeout, or an error of the server."""


class BadImage(RegistryError):
    """The registry's response does not describe an image that can be used."""


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Name what an error is about at the start of its message."""
    try:
        yield
    except RegistryError as error:
        raise type(error)(f"{what}: {error}") from error
