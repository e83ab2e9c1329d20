# SPDX-License-Identifier: Apache-2.0
"""A user's work with openstacksdk, by the functions that the user pages show."""

from __future__ import annotations

import contextlib
import importlib.util

import pytest
import websocket

from cloud import images
from tests.cloud import cloud
from tests.cloud.cloud import ssh
from tests.cloud.conftest import SECONDS
from tests.cloud.conftest import eventually


@pytest.fixture
def example(monkeypatch):
    """The module of the user pages; it finds clouds.yaml where `env` says it is."""
    for name in ("OS_CLIENT_CONFIG_FILE",):
        monkeypatch.setenv(name, cloud.environment()[name])
    spec = importlib.util.spec_from_file_location(
        "example", cloud.EXAMPLES / "server.py"
    )
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_a_server_lives_its_life_in_the_sdks_hands(example):
    demo = example.connect()
    with contextlib.ExitStack() as later:
        network = demo.create_network("sdk")
        later.callback(demo.delete_network, network.id)
        demo.create_subnet(network.id, cidr="10.78.0.0/24")
        server = example.create(demo, "sdk", images.DEBIAN)
        later.callback(example.delete, demo, server)
        assert server.status == "ACTIVE"
        address = server.public_v4
        assert eventually(lambda: ssh(address, "hostname") == "sdk\n")
        assert ssh(address, "echo kept > /kept && sync && echo done") == "done\n"

        assert example.console_log(demo, server)
        with contextlib.closing(
            websocket.create_connection(
                example.console_url(demo, server),
                timeout=SECONDS,
                subprotocols=["binary"],
            )
        ) as console:
            assert console.connected

        example.attach(demo, server, "sdk")
        assert eventually(
            lambda: "10.78.0." in ssh(address, "ip -4 address show dev eth1 || true")
        )

        image = example.snapshot(demo, server, "sdk-snapshot")
        later.callback(demo.delete_image, image.id, wait=True)
        copy = example.create(demo, "sdk-copy", "sdk-snapshot")
        later.callback(example.delete, demo, copy)
        assert copy.public_v4 != address
        assert eventually(lambda: ssh(copy.public_v4, "cat /kept") == "kept\n")

    assert not demo.get_server(server.id)
    assert not [
        each for each in demo.network.ips() if each.floating_ip_address == address
    ]
