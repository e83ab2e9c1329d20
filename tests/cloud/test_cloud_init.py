# SPDX-License-Identifier: Apache-2.0
"""Metadata, user data and vendor data, and a Debian image with cloud-init."""

from __future__ import annotations

import base64
import crypt
import json

import pytest

from cloud import images
from tests import archives
from tests.cloud.conftest import eventually

PACKAGES = ("cloud-init", "openssh-server", "iproute2", "netbase")

# The stages of cloud-init, which systemd would run.
INIT = b"""#!/bin/sh
cloud-init init --local
cloud-init init
cloud-init modules --mode=config
cloud-init modules --mode=final
mkdir -p /run/sshd
echo the SSH server starts
exec /usr/sbin/sshd -D -e
"""

USER_DATA = """#cloud-config
password: s3cret
chpasswd: {expire: false}
write_files: [{path: /srv/note, content: from the user}]
"""


@pytest.fixture(scope="module")
def debian(tmp_path_factory):
    """A docker save archive of Debian with cloud-init and an SSH server."""
    tree = tmp_path_factory.mktemp("debian") / "tree.tar"
    images.debootstrap(tree, PACKAGES)
    init = archives.tar({"usr/sbin/boot": INIT})
    config = {"Cmd": None, "Entrypoint": ["/usr/sbin/boot"]}
    path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    return archives.archive([tree.read_bytes(), init], config=config | {"Env": [path]})


@pytest.mark.parametrize("config_drive", [True, False])
def test_cloud_init_applies_key_password_and_user_data(
    boot, upload, debian, config_drive
):
    server = boot(
        upload(debian),
        flavor="docker.small",
        config_drive=config_drive,
        key_name="quickstart",
        user_data=base64.b64encode(USER_DATA.encode()).decode(),
    )
    assert eventually(lambda: "SSH server starts" in server.console()), server.console()
    assert server.run("cat /srv/note") == "from the user"
    assert server.run("hostname") == "test\n"
    assert "ssh-ed25519 " in server.run("cat /home/debian/.ssh/authorized_keys")
    password = server.run("getent shadow debian").split(":")[1]
    assert crypt.crypt("s3cret", password) == password
    # cloud-init has not changed the NICs.
    assert server.address() in server.run("ip address show dev eth0")
    source = server.run("cat /run/cloud-init/result.json")
    assert ("seed" if config_drive else "DataSourceOpenStack") in source


def metadata(server, name="meta_data.json"):
    """Return a JSON file of a server's config drive."""
    path = f"/var/lib/cloud/seed/config_drive/openstack/latest/{name}"
    return json.loads(server.run(f"cat {path}"))


def served(server, name="meta_data.json"):
    """Return the same file from the metadata service, fetched inside the server."""
    request = f"GET /openstack/latest/{name} HTTP/1.0\\r\\n\\r\\n"
    script = f"printf '{request}' | nc -w 5 169.254.169.254 80"
    answer = eventually(lambda: server.run(script, check=False), timeout=30)
    return json.loads(answer.replace("\r\n", "\n").partition("\n\n")[2])


def test_an_image_can_require_a_config_drive(boot, upload):
    archive = archives.archive([archives.busybox_layer()])
    server = boot(upload(archive, img_config_drive="mandatory"))
    assert metadata(server)["uuid"] == server.id
    assert metadata(server)["admin_pass"]


def test_a_nic_has_its_requested_tag(boot, demo):
    private = demo.network.find_network("private").id
    server = boot(networks=[{"uuid": private, "tag": "front"}], config_drive=True)
    [device] = metadata(server)["devices"]
    assert device["tags"] == ["front"]
    assert device["mac"] == server.port().mac_address
    assert served(server)["devices"] == [device]


def test_an_attached_volume_has_its_tag(volume, boot):
    disk, server = volume(), boot()
    server.user.compute.create_volume_attachment(
        server.id, volume_id=disk.id, tag="database"
    )
    disk.until("in-use")
    # Nova's metadata service keeps its answers for a while.
    assert eventually(
        lambda: [d for d in served(server)["devices"] if d["serial"] == disk.id],
        interval=2,
    )[0]["tags"] == ["database"]


def test_an_attached_nic_has_its_tag_until_it_is_detached(boot, demo):
    server = boot()
    demo.compute.create_server_interface(
        server.id, net_id=server.port().network_id, tag="late"
    )
    [mac] = server.run("cat /sys/class/net/eth1/address").split()
    # Nova caches metadata for 15 seconds.
    [device] = eventually(lambda: served(server)["devices"], timeout=30)
    assert (device["tags"], device["mac"]) == (["late"], mac)
    demo.compute.delete_server_interface(server.port_of("eth1").id, server=server.id)
    assert eventually(lambda: not served(server)["devices"], timeout=30)


def test_vendor_data_comes_from_the_cloud(boot):
    server = boot(config_drive=True)
    vendor_data = {"cloud": "nova-docker quickstart"}
    assert metadata(server, "vendor_data.json") == vendor_data
    assert served(server, "vendor_data.json") == vendor_data
