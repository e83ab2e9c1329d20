# SPDX-License-Identifier: Apache-2.0
"""Names and labels of servers' containers."""

from __future__ import annotations

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
    assert naming.uuid_of(labels) == instance.uuid
