# SPDX-License-Identifier: Apache-2.0
"""The same options describe the same client, with and without a prefix."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from oslo_config import cfg

from docker_engine import options
from docker_engine.transport.tls import TLSConfig

UNIX = "unix:///var/run/docker.sock"
TCP = "tcp://engine.example.org:2376"


@pytest.fixture(autouse=True)
def made(monkeypatch):
    """The arguments of the client that was made last."""
    arguments: dict[str, Any] = {}

    def client(host, **rest):
        arguments.clear()
        arguments.update(host=host, **rest)
        return arguments

    monkeypatch.setattr(options, "DockerClient", client)
    return arguments


@pytest.fixture(params=["", "docker_"], ids=["nova.conf", "glance-api.conf"])
def connect(request):
    """Makes a client from options with nova.conf's or Glance's names."""

    def connect(**values):
        config = cfg.ConfigOpts()
        config.register_opts(options.connection_opts(request.param), "group")
        for name, value in values.items():
            config.set_override(request.param + name, value, "group")
        return options.client(config.group, request.param)

    return connect


def test_the_default_is_the_local_engine(connect):
    assert connect() == {
        "host": UNIX,
        "tls": None,
        "connect_timeout": 5,
        "read_timeout": 120,
    }


def test_all_options_reach_the_client(connect):
    files = {
        "ca_file": "/ca.pem",
        "cert_file": "/client.pem",
        "key_file": "/client-key.pem",
    }
    made = connect(
        host=TCP, tls_verify=False, connect_timeout=1, read_timeout=2, **files
    )
    assert made == {
        "host": TCP,
        "tls": TLSConfig(**files, verify=False),
        "connect_timeout": 1,
        "read_timeout": 2,
    }


def test_a_tcp_engine_is_reached_with_verified_tls_by_default(connect):
    assert connect(host=TCP)["tls"] == TLSConfig(verify=True)


def test_tls_can_be_switched_off(connect):
    assert connect(host=TCP, tls=False)["tls"] is None


def test_a_unix_socket_has_no_tls(connect):
    assert connect(host=UNIX, tls=True, ca_file="/ca.pem")["tls"] is None


def test_a_host_that_is_no_address_is_a_value_error(connect, monkeypatch):
    monkeypatch.undo()
    with pytest.raises(ValueError, match="not an engine address: 'localhost'"):
        connect(host="localhost")


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
def test_timeouts_are_at_least_one_second(connect, name):
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        connect(**{name: 0})


def test_a_prefix_changes_names_only():
    plain = options.connection_opts()
    prefixed = options.connection_opts("docker_")
    assert [f"docker_{opt.name}" for opt in plain] == [opt.name for opt in prefixed]
    assert [opt.default for opt in plain] == [opt.default for opt in prefixed]


def test_help_texts_refer_to_options_by_their_full_names():
    names = {opt.name for opt in options.connection_opts("docker_")}
    for opt in options.connection_opts("docker_"):
        for word in opt.help.replace("``", " ").replace("=", " ").split():
            if word.endswith(("_file", "_verify", "_timeout")):
                assert word in names


def test_every_tls_setting_has_an_option():
    fields = {field.name for field in dataclasses.fields(TLSConfig)} - {"verify"}
    names = {opt.name for opt in options.connection_opts()}
    assert fields | {"tls_verify"} <= names


def test_help_texts_name_what_presents_the_certificate():
    opts = {opt.name: opt.help for opt in options.connection_opts(peer="engines")}
    assert "certificate of engines" in opts["tls_verify"]
    assert "certificate of engines" in opts["ca_file"]
    more = options.connection_opts(host_help="\nMore help.\n")
    assert "More help." in more[0].help
