# SPDX-License-Identifier: Apache-2.0
"""Servers in gVisor, in a real cloud."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from cloud import images
from docker_engine.client import DockerClient
from tests.cloud import cloud
from tests.cloud.conftest import TIMEOUT
from tests.cloud.conftest import eventually
from tests.cloud.conftest import opens

FLAVOR = "docker.small.gvisor"
SERVE = "echo hello > /tmp/index.html; httpd -p 8080 -h /tmp"


@pytest.fixture(scope="module", autouse=True)
def gvisor(the_cloud):
    """A cloud that has gVisor. Servers that run keep running while it is added."""
    engine = DockerClient(cloud.environment()["DOCKER_HOST"])

    def running():
        return {c["Id"] for c in engine.list_containers() if c["State"] == "running"}

    before = running()
    cloud.up("--gvisor")
    assert "nova-gvisor" in engine.info()["Runtimes"]
    assert running() >= before


def is_in_gvisor(server):
    return server.run("cat /proc/version") != pathlib.Path("/proc/version").read_text()


def pings(address):
    command = ["ping", "-c", "1", "-W", "2", address]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_server_answers_ping_and_ssh_at_its_floating_ip(boot, floating_ip):
    server = boot(images.DEBIAN, flavor=FLAVOR, key_name="quickstart")
    assert is_in_gvisor(server)
    address = floating_ip(server)
    assert eventually(lambda: pings(address))
    version = eventually(lambda: cloud.ssh(address, "cat /proc/version"))
    assert version == server.run("cat /proc/version")
    assert server.console()


def test_a_security_group_opens_and_closes_a_port(boot, floating_ip, demo):
    group = demo.network.create_security_group(name="gvisor")
    try:
        server = boot(flavor=FLAVOR, security_groups=[{"name": group.id}])
        server.run("busybox mkdir -p /tmp; " + SERVE)
        address = floating_ip(server)
        assert not opens(address, 8080)
        rule = demo.network.create_security_group_rule(
            security_group_id=group.id,
            direction="ingress",
            ether_type="IPv4",
            protocol="tcp",
            port_range_min=8080,
            port_range_max=8080,
        )
        assert eventually(lambda: opens(address, 8080))
        demo.network.delete_security_group_rule(rule)
        assert eventually(lambda: not opens(address, 8080))
        demo.compute.delete_server(server.id)
        demo.compute.wait_for_delete(server.show(), interval=0.2, wait=TIMEOUT)
    finally:
        demo.network.delete_security_group(group)


def test_a_snapshot_has_what_the_server_wrote(boot, demo):
    server = boot(flavor=FLAVOR)
    server.run("echo written > /file")
    image = demo.compute.create_server_image(server.id, "gvisor-snapshot", wait=True)
    try:
        copy = boot("gvisor-snapshot", flavor="docker.small")
        assert copy.run("cat /file") == "written\n"
        assert not is_in_gvisor(copy)
    finally:
        demo.image.delete_image(image)


def test_a_server_is_rebooted_and_keeps_its_network(boot, floating_ip):
    server = boot(flavor=FLAVOR)
    address = floating_ip(server)
    for kind in ("SOFT", "HARD"):
        server.act("reboot_server", kind, until="ACTIVE")
        assert eventually(lambda: pings(address))


def test_a_restart_of_nova_compute_does_not_disturb_it(boot, floating_ip):
    server = boot(flavor=FLAVOR)
    address = floating_ip(server)
    assert eventually(lambda: pings(address))
    process = cloud.nova_compute()
    process.kill()
    assert eventually(lambda: cloud.nova_compute(other_than=process.pid))
    cloud.up()
    server.run("busybox mkdir -p /tmp; " + SERVE)
    assert server.run("ip addr show dev eth0").count(server.address()) == 1
    assert eventually(lambda: pings(address))
