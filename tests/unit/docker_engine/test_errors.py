# SPDX-License-Identifier: Apache-2.0
"""Each status of the Engine API has its error."""

from __future__ import annotations

import pytest

from docker_engine import errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.BadRequest),
        (401, errors.Forbidden),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (418, errors.EngineError),
        (500, errors.EngineError),
        (503, errors.EngineError),
    ],
)
def test_the_status_determines_the_error(status, kind):
    error = errors.for_status(status, "because")
    assert type(error) is kind
    assert (error.message, error.status, str(error)) == ("because", status, "because")


MISSING = [
    errors.ContainerNotFound,
    errors.ImageNotFound,
    errors.ExecNotFound,
    errors.PathNotFound,
]


@pytest.mark.parametrize("missing", MISSING)
def test_a_404_is_the_error_that_the_call_asks_for(missing):
    assert type(errors.for_status(404, "no such", missing=missing)) is missing
    assert type(errors.for_status(409, "taken", missing=missing)) is errors.Conflict


@pytest.mark.parametrize("missing", MISSING)
def test_every_missing_object_is_a_not_found_and_no_other(missing):
    assert issubclass(missing, errors.NotFound)
    assert not any(issubclass(missing, other) for other in MISSING if other != missing)


def test_every_error_is_a_docker_error():
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, errors.DockerError)


def test_an_error_without_a_response_has_no_status():
    assert errors.Unreachable("gone").status is None
