# SPDX-License-Identifier: Apache-2.0
"""What can go wrong between the driver and the engine.

The driver's rooms translate these into Nova's exceptions; nothing else of the
HTTP client reaches them.
"""

from __future__ import annotations


class DockerError(Exception):
    """The engine refused a call, failed at it, or could not be asked.

    :ivar message: the engine's own words where it answered
    :ivar status: HTTP status, None where there was no answer
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class BadRequest(DockerError):
    """400: the engine does not take what it was asked."""


class Forbidden(DockerError):
    """401 or 403, or a socket that this user may not open."""


class NotFound(DockerError):
    """404: no such container or image."""


class Conflict(DockerError):
    """409: the name is taken, or the state does not allow it."""


class EngineError(DockerError):
    """5xx, or another answer that the Engine API does not foresee."""


class UnsupportedVersion(DockerError):
    """The engine speaks no version of the API that the driver speaks."""


class Unreachable(DockerError):
    """No connection to the engine, or one that was lost."""


class Timeout(DockerError):
    """The engine was silent for longer than the read time-out."""


_BY_STATUS: dict[int, type[DockerError]] = {
    400: BadRequest,
    401: Forbidden,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
}


def for_status(status: int, message: str) -> DockerError:
    """The error for an answer of the engine."""
    return _BY_STATUS.get(status, EngineError)(message, status)
