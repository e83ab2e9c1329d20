# SPDX-License-Identifier: Apache-2.0
"""Translation of the engine's errors into Nova's exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova import exception

from docker_engine.errors import BadRequest
from docker_engine.errors import ContainerNotFound
from docker_engine.errors import DockerError
from docker_engine.errors import Timeout


class EngineTimeout(exception.NovaException):
    """The engine did not answer in time; other calls to it may still succeed."""

    msg_fmt = "Docker engine error: %(reason)s"


@contextlib.contextmanager
def translated(
    uuid: str | None = None,
    failure: type[exception.NovaException] | None = None,
) -> Iterator[None]:
    """Translate the errors of Engine API calls in the block.

    :param uuid: the server that the calls are about, if any
    :param failure: raised instead of a plain NovaException, with the engine's message
        as its ``reason``
    :raises InstanceNotFound: if the engine does not have the server's container
    :raises InvalidInput: if the engine rejects the request
    :raises EngineTimeout: or ``failure``, if the engine does not answer in time
    :raises NovaException: or ``failure``, for any other error
    """
    try:
        yield
    except ContainerNotFound as error:
        raise exception.InstanceNotFound(instance_id=uuid) from error
    except BadRequest as error:
        raise exception.InvalidInput(reason=str(error)) from error
    except DockerError as error:
        if failure:
            raise failure(reason=str(error)) from error
        if isinstance(error, Timeout):
            raise EngineTimeout(reason=str(error)) from error
        raise exception.NovaException(f"Docker engine error: {error}") from error


@contextlib.contextmanager
def rolled_back() -> Iterator[None]:
    """Make Nova show the state that a server had before the verb if the block fails.

    Nova records the reason in the server's action event. After any other exception, it
    would show the server in ERROR, which only a hard reboot ends.

    :raises InstanceFaultRollback: if the block fails
    """
    try:
        yield
    except exception.InstanceFaultRollback:
        raise
    except Exception as error:
        raise exception.InstanceFaultRollback(inner_exception=error) from error
