# SPDX-License-Identifier: Apache-2.0
"""Translation of the engine's errors into Nova's exceptions."""

from __future__ import annotations

import pytest
from nova import exception

from docker_engine import errors
from nova_docker.errors import EngineTimeout
from nova_docker.errors import rolled_back
from nova_docker.errors import translated
from tests import samples


def translate(error, *args, **kwargs):
    """Return the exception that Nova sees for an error of the engine."""
    with pytest.raises(exception.NovaException) as caught, translated(*args, **kwargs):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


def test_a_missing_container_is_reported_as_a_missing_server():
    uuid = samples.uuid()
    found = translate(errors.ContainerNotFound("No such container: x", 404), uuid)
    assert type(found) is exception.InstanceNotFound
    assert uuid in str(found)


@pytest.mark.parametrize(
    "error",
    [
        errors.ImageNotFound("No such image: x", 404),
        errors.ExecNotFound("No such exec instance: x", 404),
        errors.PathNotFound("No such file: x", 404),
        errors.NotFound("page not found", 404),
    ],
)
def test_other_missing_objects_are_not_reported_as_a_missing_server(error):
    found = translate(error, samples.uuid())
    assert type(found) is exception.NovaException
    assert error.message in str(found)


def test_a_rejected_request_is_invalid_input():
    found = translate(errors.BadRequest("invalid mount target", 400), samples.uuid())
    assert type(found) is exception.InvalidInput
    assert "invalid mount target" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        errors.Conflict("container is paused", 409),
        errors.EngineError("no space left on device", 500),
        errors.Forbidden("permission denied"),
        errors.Unreachable("connection refused"),
        errors.UnsupportedVersion("API version 1.40"),
    ],
)
def test_any_other_error_keeps_the_engines_message(error):
    plain = translate(error)
    assert type(plain) is exception.NovaException
    assert str(plain) == f"Docker engine error: {error.message}"

    chosen = translate(error, samples.uuid(), exception.InstancePowerOffFailure)
    assert type(chosen) is exception.InstancePowerOffFailure
    assert error.message in str(chosen)


def test_a_timeout_can_be_told_apart_unless_an_exception_is_chosen():
    error = errors.Timeout("no response for 60 seconds")
    plain = translate(error)
    assert type(plain) is EngineTimeout
    assert str(plain) == "Docker engine error: no response for 60 seconds"
    chosen = translate(error, None, exception.InstancePowerOffFailure)
    assert type(chosen) is exception.InstancePowerOffFailure


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.ContainerNotFound("gone", 404), exception.InstanceNotFound),
        (errors.BadRequest("bad", 400), exception.InvalidInput),
    ],
)
def test_a_chosen_exception_does_not_hide_what_nova_tells_apart(error, kind):
    found = translate(error, samples.uuid(), exception.InstancePowerOnFailure)
    assert type(found) is kind


def test_other_exceptions_pass():
    with pytest.raises(KeyError), translated(samples.uuid()):
        raise KeyError("not the engine's")


def test_a_failure_becomes_a_rollback_with_its_reason():
    reason = exception.ResizeError(reason="too small")
    with pytest.raises(exception.InstanceFaultRollback) as raised, rolled_back():
        raise reason
    assert raised.value.inner_exception is reason


def test_a_rollback_stays_as_it_is():
    rollback = exception.InstanceFaultRollback(inner_exception=ValueError())
    with pytest.raises(exception.InstanceFaultRollback) as raised, rolled_back():
        raise rollback
    assert raised.value is rollback


def test_success_is_not_rolled_back():
    with rolled_back():
        pass
