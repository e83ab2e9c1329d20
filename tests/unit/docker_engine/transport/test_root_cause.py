# SPDX-License-Identifier: Apache-2.0
"""Errors that the HTTP libraries wrap in one another are unwrapped."""

from __future__ import annotations

import pytest
import requests
import urllib3

from docker_engine.transport.root_cause import causes
from docker_engine.transport.root_cause import root_cause


def raised(error, cause=None):
    """An error that has been raised, from a cause if given."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


def test_an_error_without_a_cause_is_its_own_root():
    error = OSError(5, "disk")
    assert list(causes(error)) == [error]
    assert root_cause(error) is error


def test_an_error_in_the_arguments_is_a_cause():
    refused = ConnectionRefusedError(111, "Connection refused")
    protocol = urllib3.exceptions.ProtocolError("Connection aborted.", refused)
    error = requests.ConnectionError(protocol)
    assert list(causes(error)) == [error, protocol, refused]
    assert root_cause(error) is refused


def test_an_error_in_the_reason_is_a_cause():
    refused = ConnectionRefusedError(111, "Connection refused")
    retries = urllib3.exceptions.MaxRetryError(None, "/", refused)
    assert root_cause(requests.ConnectionError(retries)) is refused


def test_the_error_from_which_another_was_raised_is_a_cause():
    permission = PermissionError(13, "Permission denied")
    assert root_cause(raised(ValueError("wrapped"), permission)) is permission


@pytest.mark.parametrize(
    "wrapper",
    [
        urllib3.exceptions.NewConnectionError(
            urllib3.connection.HTTPConnection("engine"), "Failed to connect"
        ),
        urllib3.exceptions.ReadTimeoutError(
            urllib3.HTTPConnectionPool("engine"), "/", "Read timed out."
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_urllib3_may_wrap_an_error_without_naming_it_as_the_cause(wrapper):
    refused = ConnectionRefusedError(111, "Connection refused")
    try:
        raise refused
    except ConnectionRefusedError:
        error = raised(wrapper)
    assert root_cause(requests.ConnectionError(error)) is refused


def test_an_error_that_the_caller_handles_is_no_cause():
    refused = ConnectionRefusedError(111, "Connection refused")
    try:
        raise PermissionError(13, "Permission denied")
    except PermissionError:
        error = raised(requests.ConnectionError(raised(refused)))
    assert root_cause(error) is refused


def test_errors_that_cause_each_other_do_not_loop():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert list(causes(one)) == [one, two]
