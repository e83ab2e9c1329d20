# SPDX-License-Identifier: Apache-2.0
"""Config drive, metadata, injected files, keys and passwords."""

from __future__ import annotations

import base64
import json

import pytest
from openstack import exceptions
from oslo_utils import uuidutils

from cloud import images
from tests.cloud import services
from tests.cloud.conftest import eventually

SEED = "/var/lib/cloud/seed"
DATA = "#!/bin/sh\necho hello\n"
ENCODED = base64.b64encode(DATA.encode()).decode()


@pytest.fixture
def key(demo):
    pair = demo.compute.create_keypair(name=f"test-{uuidutils.generate_uuid()}")
    yield pair
    demo.compute.delete_keypair(pair)


def metadata(server):
    path = f"{SEED}/config_drive/openstack/latest/meta_data.json"
    return json.loads(server.run(f"cat {path}"))


def test_a_config_drive_is_where_cloud_init_looks(boot, demo, key):
    server = boot(
        config_drive=True, user_data=ENCODED, metadata={"a": "1"}, key_name=key.name
    )
    found = metadata(server)
    assert found["uuid"] == server.id
    assert found["meta"] == {"a": "1"}
    assert found["public_keys"][key.name].strip() == key.public_key.strip()
    latest = f"{SEED}/config_drive/openstack/latest"
    assert server.run(f"cat {latest}/user_data") == DATA
    assert server.run(f"cat {SEED}/nocloud/user-data") == DATA
    assert server.id in server.run(f"cat {SEED}/nocloud/meta-data")
    assert server.run(f"touch {latest}/x 2>/dev/null || echo refused") == "refused\n"

    # A rebuild writes it again.
    image = demo.image.find_image(images.BUSYBOX).id
    demo.compute.rebuild_server(server.id, image=image, metadata={"a": "2"})
    eventually(lambda: server.status == "ACTIVE" and not server.show().task_state)
    assert metadata(server)["meta"] == {"a": "2"}


def test_force_config_drive_gives_every_server_a_config_drive(boot):
    with services.configured(
        services.NOVA_CONF,
        "[DEFAULT]\n",
        "[DEFAULT]\nforce_config_drive = true\n",
        "nova-compute",
    ):
        server = boot()
        assert metadata(server)["uuid"] == server.id
        assert server.show().has_config_drive


def test_a_server_has_no_config_drive_by_default(boot):
    assert boot().run(f"ls {SEED} 2>/dev/null || echo none") == "none\n"


def test_a_key_is_injected_for_an_image_without_cloud_init(boot, key):
    server = boot(key_name=key.name)
    assert server.run("cat /root/.ssh/authorized_keys").strip() == (
        key.public_key.strip()
    )
    assert server.run("stat -c %a /root/.ssh/authorized_keys").strip() == "600"


def test_a_file_is_injected(boot, demo):
    answer = demo.compute.post(
        "/servers",
        json={
            "server": {
                "name": "test",
                "imageRef": demo.image.find_image(images.BUSYBOX).id,
                "flavorRef": demo.compute.find_flavor("docker.tiny").id,
                "networks": [{"uuid": demo.network.find_network("private").id}],
                "personality": [{"path": "/etc/motd", "contents": ENCODED}],
            }
        },
        # The last microversion with file injection.
        microversion="2.56",
    ).json()
    server = boot(existing=answer["server"]["id"])
    assert server.run("cat /etc/motd") == DATA


def test_a_password_is_set(boot, demo):
    server = boot(images.DEBIAN, flavor="docker.small")
    before = server.run("grep ^root: /etc/shadow")
    demo.compute.change_server_password(server.id, "a new one")
    assert eventually(lambda: server.run("grep ^root: /etc/shadow") != before)


def test_a_password_change_without_chpasswd_is_refused(boot, demo):
    server = boot()
    server.run("rm -f /bin/chpasswd /usr/sbin/chpasswd /sbin/chpasswd")
    with pytest.raises(exceptions.ConflictException, match="not supported"):
        demo.compute.change_server_password(server.id, "a new one")
    assert server.status == "ACTIVE"


def test_metadata_is_served_through_neutron(boot):
    server = boot(images.DEBIAN, flavor="docker.small", user_data=ENCODED)
    get = (
        "exec 3<>/dev/tcp/169.254.169.254/80; "
        "printf 'GET {} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    )

    def answer(path):
        return server.run(f'timeout 10 bash -c "{get.format(path)}"', check=False)

    path = "/openstack/latest/meta_data.json"
    assert eventually(lambda: server.id in answer(path), timeout=60, interval=1)
    assert DATA in answer("/openstack/latest/user_data").replace("\r\n", "\n")
