# SPDX-License-Identifier: Apache-2.0
"""Names and labels of servers' containers."""

from __future__ import annotations

import pytest

from nova_docker.container import naming
from tests import samples


def test_a_container_is_named_after_its_server():
    assert naming.name_of("1-2-3") == "nova-1-2-3"


def test_labels_identify_the_server_and_its_owner():
    instance = samples.instance()

    labels = naming.labels(instance)

    assert labels == {
        "org.openstack.nova.uuid": instance.uuid,
        "org.openstack.nova.name": "instance-0000001a",
        "org.openstack.nova.display_name": "web 1",
        "org.openstack.nova.project": "project",
        "org.openstack.nova.image": instance.image_ref,
    }
    names = [f"/nova-{instance.uuid}"]
    assert naming.uuid_of(labels, names) == instance.uuid


def test_a_server_in_rescue_is_still_a_server():
    labels = {naming.UUID_LABEL: "1-2"}
    assert naming.uuid_of(labels, ["nova-1-2-rescued"]) == "1-2"


@pytest.mark.parametrize("uuid", ["1-2", ""])
def test_an_images_label_does_not_make_a_container_a_server(uuid):
    """A tenant's image may have it, or a snapshot of a server, with an empty value."""
    foreign = {
        "Labels": {naming.UUID_LABEL: uuid},
        "Names": ["/postgres"],
        "State": "running",
    }
    server = foreign | {"Names": ["/nova-1-2"], "State": "exited"}
    assert naming.by_uuid([foreign]) == {}
    if uuid:
        assert naming.by_uuid([foreign, server, foreign]) == {uuid: server}
