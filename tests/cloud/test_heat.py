# SPDX-License-Identifier: Apache-2.0
"""A server in a stack of Heat, from the user pages' template."""

from __future__ import annotations

import contextlib

import pytest

from tests.cloud import cloud
from tests.cloud.cloud import ssh
from tests.cloud.conftest import eventually


@pytest.fixture(scope="module", autouse=True)
def heat(the_cloud):
    """A cloud that has Heat."""
    cloud.up("--heat")


def test_a_stack_creates_changes_and_deletes_a_server(openstack, demo):
    template = str(cloud.EXAMPLES / "stack.yaml")
    create = "stack create --wait --parameter flavor=docker.tiny web --template"

    def output(name):
        show = "stack output show -f json -c output_value web"
        return openstack(show, name)["output_value"]

    with contextlib.ExitStack() as later:
        later.callback(openstack, "stack delete --yes --wait web")
        openstack(create, template)
        address, server_id = output("address"), output("server")
        assert eventually(lambda: ssh(address, "hostname") == "web\n")

        update = "stack update --wait --existing web --parameter role=db"
        openstack(update, "--parameter", "flavor=docker.small")
        server = demo.compute.get_server(server_id)
        assert (server.status, server.metadata) == ("ACTIVE", {"role": "db"})
        assert server.flavor.original_name == "docker.small"
        assert eventually(lambda: ssh(address, "hostname") == "web\n")

    assert not demo.get_server(server_id)
    assert not list(demo.network.ports(device_id=server_id))
    assert not list(demo.network.ips(floating_ip_address=address))
    groups = demo.network.security_groups()
    assert not [each for each in groups if each.name.startswith("web-")]
