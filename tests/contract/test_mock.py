# SPDX-License-Identifier: Apache-2.0
"""The mock has the interface of the client."""

from __future__ import annotations

import inspect

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.mock.client import MockDockerClient


def public(cls):
    return {
        name: member
        for name, member in inspect.getmembers_static(cls)
        if not name.startswith("_") or name == "__init__"
    }


def test_the_mock_has_the_methods_of_the_client():
    real, mock = public(DockerClient), public(MockDockerClient)
    # And three with which a test acts in place of an engine.
    assert mock.keys() - real.keys() == {"exit", "fail_next", "write"}
    for name, member in real.items():
        assert type(member) is type(mock[name]), name
        if inspect.isfunction(member):
            parameters = [
                [(p.name, p.kind, p.default) for p in signature.parameters.values()]
                for signature in map(inspect.signature, (member, mock[name]))
            ]
            assert parameters[0] == parameters[1], name


def test_a_test_can_make_the_mock_fail():
    client = MockDockerClient()
    client.fail_next("info", errors.Unreachable("gone"))
    with pytest.raises(errors.Unreachable, match="gone"):
        client.info()
    assert client.info()["NCPU"] > 0
    with pytest.raises(AttributeError):
        client.fail_next("infos", errors.Unreachable("gone"))
