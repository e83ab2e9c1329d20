# SPDX-License-Identifier: Apache-2.0
"""Addresses of engines."""

from __future__ import annotations

import pytest
import requests_unixsocket.adapters

from docker_engine import errors
from docker_engine.client import DockerClient
from tests.unit.docker_engine.http_engine import answer
from tests.unit.docker_engine.http_engine import serving


@pytest.mark.parametrize("host", ["/run/docker.sock", "unix://", "ssh://host", ""])
def test_a_malformed_host_is_a_value_error(host):
    with pytest.raises(ValueError, match="not an engine"):
        DockerClient(host)


def test_an_engine_can_be_reached_over_tcp():
    with serving() as engine:
        engine.answers["GET /info"] = answer(NCPU=2)
        assert DockerClient(engine.host).info() == {"NCPU": 2}


def test_a_missing_socket_is_unreachable(tmp_path):
    with pytest.raises(errors.Unreachable, match=r"No such file|ENOENT") as caught:
        DockerClient(f"unix://{tmp_path}/none.sock").info()
    assert caught.value.status is None
    assert f"{tmp_path}/none.sock" in caught.value.message


def test_a_closed_port_is_unreachable():
    with serving() as engine:
        host = engine.host
    with pytest.raises(errors.Unreachable, match=r"Connection refused|ECONNREFUSED"):
        DockerClient(host).ping()


def test_a_socket_without_permission_is_forbidden(client, monkeypatch):
    def connect(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(
        requests_unixsocket.adapters.UnixHTTPConnection, "connect", connect
    )
    with pytest.raises(errors.Forbidden, match="group"):
        client.ping()


def test_proxies_in_the_environment_are_ignored(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as engine:
        DockerClient(engine.host).ping()
        assert engine.calls == ["GET /_ping"]
