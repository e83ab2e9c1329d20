# SPDX-License-Identifier: Apache-2.0
"""The engine's errors as Nova's exceptions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from nova import exception

from docker_engine.errors import BadRequest
from docker_engine.errors import DockerError
from docker_engine.errors import NotFound


@contextlib.contextmanager
def translated(
    uuid: str | None = None,
    failure: type[exception.NovaException] | None = None,
) -> Iterator[None]:
    """Turn the engine's errors, about a server if given, into Nova's.

    :param failure: raised with the engine's words as its ``reason`` for what
        has no exception of its own
    :raises InstanceNotFound: the engine has not what it was asked about
    :raises InvalidInput: the engine does not take what it was asked
    :raises NovaException: or ``failure``, for the rest
    """
    try:
        yield
    except NotFound as error:
        raise exception.InstanceNotFound(instance_id=uuid) from error
    except BadRequest as error:
        raise exception.InvalidInput(reason=str(error)) from error
    except DockerError as error:
        if failure:
            raise failure(reason=str(error)) from error
        raise exception.NovaException(f"The Docker engine: {error}") from error
