# SPDX-License-Identifier: Apache-2.0
"""A user's work with openstackclient, as the user pages describe it."""

from __future__ import annotations

from cloud import images
from tests.cloud.cloud import ssh
from tests.cloud.conftest import eventually


def test_a_server_lives_its_life_in_the_clients_hands(openstack):
    names = [each["Name"] for each in openstack("image list -f json")]
    assert {images.DEBIAN, images.BUSYBOX} <= set(names)

    server = openstack(
        f"server create --image {images.DEBIAN} --flavor docker.small --network private"
        " --key-name quickstart --wait -f json",
        "client",
    )
    openstack.later("server delete --wait", server["id"])
    assert server["status"] == "ACTIVE"

    address = openstack("floating ip create public -f json")["floating_ip_address"]
    openstack.later("floating ip delete", address)
    openstack("server add floating ip", server["id"], address)

    assert eventually(lambda: ssh(address, "hostname") == "client\n")
    assert ssh(address, "echo kept > /kept && sync && echo done") == "done\n"
    assert openstack("console log show", server["id"])

    network = openstack("network create -f json client")["id"]
    openstack.later("network delete", network)
    openstack(f"subnet create --network {network} --subnet-range 10.79.0.0/24 client")
    openstack("server add network", server["id"], network)
    assert "10.79.0." in ssh(address, "ip -4 address show eth1")
    openstack("server remove network", server["id"], network)
    assert "eth1" not in ssh(address, "ls /sys/class/net")

    image = openstack("server image create --wait -f json", server["id"])["id"]
    openstack.later("image delete", image)
    copy = openstack(
        f"server create --image {image} --flavor docker.small --network private"
        " --key-name quickstart --wait -f json",
        "copy",
    )
    openstack.later("server delete --wait", copy["id"])
    openstack("server remove floating ip", server["id"], address)
    openstack("server add floating ip", copy["id"], address)
    assert eventually(lambda: ssh(address, "cat /kept") == "kept\n")

    for verb, status in ("stop", "SHUTOFF"), ("start", "ACTIVE"), ("pause", "PAUSED"):
        openstack(f"server {verb}", copy["id"])
        assert eventually(
            lambda status=status: (
                openstack("server show -f json", copy["id"])["status"] == status
            ),
            interval=1,
        )
    openstack("server unpause", copy["id"])
    assert eventually(lambda: ssh(address, "cat /kept") == "kept\n")
