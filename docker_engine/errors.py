# SPDX-License-Identifier: Apache-2.0
"""Errors of the Engine API and of the connection to it.

They carry the engine's own message. Packages that use the client translate them into
exceptions of their service.
"""

from __future__ import annotations

from docker_engine.printable import printable


class DockerError(Exception):
    """The engine refused a call, failed during a call, or could not be reached.

    :ivar message: the engine's own message if it responded, fit for a log: it may quote
        what is in an image
    :ivar status: HTTP status; None if there was no response
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        self.message = printable(message)
        super().__init__(self.message)
        self.status = status


class BadRequest(DockerError):
    """400: the request is invalid."""


class Forbidden(DockerError):
    """401 or 403, or no permission to open the engine's socket."""


class NotFound(DockerError):
    """404: no such object; the subclass tells which kind."""


class ContainerNotFound(NotFound):
    """No such container."""


class ImageNotFound(NotFound):
    """No such image, on the engine or in the registry from which it pulls."""


class ExecNotFound(NotFound):
    """No such exec instance; they are gone once the container or engine restarts."""


class PathNotFound(NotFound):
    """No such file or directory in a container."""


class VolumeNotFound(NotFound):
    """No such volume."""


class Conflict(DockerError):
    """409: the name is taken, or the object's state does not allow the call."""


class EngineError(DockerError):
    """5xx, or a response that the Engine API does not specify."""


class UnsupportedVersion(DockerError):
    """The engine and this client have no API version in common."""


class Unreachable(DockerError):
    """The engine cannot be connected to, or the connection was lost."""


class Timeout(DockerError):
    """The engine sent nothing for longer than the read timeout."""


_BY_STATUS: dict[int, type[DockerError]] = {
    400: BadRequest,
    401: Forbidden,
    403: Forbidden,
    409: Conflict,
}


def for_status(
    status: int, message: str, *, missing: type[NotFound] = NotFound
) -> DockerError:
    """Return the error for a response of the engine.

    :param missing: the error for status 404, which depends on the call
    """
    if status == 404:
        return missing(message, status)
    return _BY_STATUS.get(status, EngineError)(message, status)
