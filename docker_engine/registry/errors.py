# SPDX-License-Identifier: Apache-2.0
"""Errors of a registry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class RegistryError(Exception):
    """A registry does not do what it is asked; the message is a sentence on why."""


class NotFound(RegistryError):
    """The registry has no such image, or no such part of it."""


class Refused(RegistryError):
    """The registry does not let us in, or is not the one it should be."""


class Unreachable(RegistryError):
    """No connection, one that was lost, silence, or a server's error."""


class BadImage(RegistryError):
    """What the registry answers is no image that can be taken."""


@contextlib.contextmanager
def about(what: str) -> Iterator[None]:
    """Say in the message of an error what it is about."""
    try:
        yield
    except RegistryError as error:
        raise type(error)(f"{what}: {error}") from error
