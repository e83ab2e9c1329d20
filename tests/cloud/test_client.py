# SPDX-License-Identifier: Apache-2.0
"""A user's work with openstackclient, as the user pages describe it."""

from __future__ import annotations

import contextlib
import json
import subprocess

import pytest

from cloud import images
from cloud import settings
from tests.cloud.conftest import eventually

SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null")


@pytest.fixture
def openstack():
    """Calls the client as demo, and returns what it says as JSON, if it does."""
    shell = 'eval "$("$0" env demo)" && exec openstack "$@"'

    def call(command, *more):
        words = [settings.SOURCE / "quickstart", *command.split(), *more]
        done = subprocess.run(
            ["bash", "-c", shell, *words],
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        with contextlib.suppress(json.JSONDecodeError):
            return json.loads(done.stdout)
        return done.stdout

    with contextlib.ExitStack() as later:
        call.later = lambda *words: later.callback(call, *words)
        yield call


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

    def run(command):
        login = [*SSH, "-i", settings.SSH_KEY, f"root@{address}", command]
        return subprocess.run(
            login, check=False, capture_output=True, text=True, timeout=60
        ).stdout

    assert eventually(lambda: run("hostname") == "client\n")
    assert run("echo kept > /kept && sync && echo done") == "done\n"
    assert openstack("console log show", server["id"])

    network = openstack("network create -f json client")["id"]
    openstack.later("network delete", network)
    openstack(f"subnet create --network {network} --subnet-range 10.79.0.0/24 client")
    openstack("server add network", server["id"], network)
    assert "10.79.0." in run("ip -4 address show eth1")
    openstack("server remove network", server["id"], network)
    assert "eth1" not in run("ls /sys/class/net")

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
    assert eventually(lambda: run("cat /kept") == "kept\n")

    for verb, status in ("stop", "SHUTOFF"), ("start", "ACTIVE"), ("pause", "PAUSED"):
        openstack(f"server {verb}", copy["id"])
        assert eventually(
            lambda status=status: (
                openstack("server show -f json", copy["id"])["status"] == status
            ),
            interval=1,
        )
    openstack("server unpause", copy["id"])
    assert eventually(lambda: run("cat /kept") == "kept\n")
