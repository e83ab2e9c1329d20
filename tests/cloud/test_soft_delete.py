# SPDX-License-Identifier: Apache-2.0
"""Soft deletion, which Nova's option reclaim_instance_interval enables."""

from __future__ import annotations

import pytest

from nova_docker.container.naming import name_of
from tests.cloud import services
from tests.cloud.conftest import eventually


@pytest.fixture
def reclaimed_later():
    with services.configured(
        services.NOVA_CONF,
        "[DEFAULT]\n",
        "[DEFAULT]\nreclaim_instance_interval = 3600\n",
        "nova-api",
    ):
        yield


def test_a_soft_deleted_server_is_restored(boot, engine, admin, reclaimed_later):
    server = boot()
    server.run("echo kept > /file")
    server.user.compute.delete_server(server.id)
    assert eventually(
        lambda: admin.compute.get_server(server.id).status == "SOFT_DELETED"
    )
    container = engine.inspect_container(name_of(server.id))
    assert not container["State"]["Running"]

    server.act("restore_server", until="ACTIVE")

    assert server.run("cat /file") == "kept\n"
    assert server.address() in server.run("ip -o addr show dev eth0")


def test_a_soft_deleted_server_is_force_deleted(boot, engine, admin, reclaimed_later):
    server = boot()
    server.user.compute.delete_server(server.id)
    assert eventually(
        lambda: admin.compute.get_server(server.id).status == "SOFT_DELETED"
    )
    server.user.compute.delete_server(server.id, force=True)
    # The fixture nothing_is_left checks the rest.
    assert eventually(
        lambda: not engine.list_containers(filters={"name": [name_of(server.id)]})
    )
