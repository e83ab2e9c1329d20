# SPDX-License-Identifier: Apache-2.0
"""Traffic to and from servers."""

from __future__ import annotations

import paramiko
import pytest

from cloud import images
from tests.cloud import cloud
from tests.cloud.conftest import eventually
from tests.cloud.conftest import opens

SERVE = "echo hello > /tmp/index.html; httpd -p {port} -h /tmp"
FETCH = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 10 {address} {port}"


def fetched(client, address, port=80):
    script = FETCH.format(address=address, port=port)
    return client.run(script, check=False).endswith("hello\n")


def test_servers_reach_each_other_over_tcp(boot):
    web, client = boot(), boot()
    web.run("mkdir -p /tmp; " + SERVE.format(port=80))
    assert eventually(lambda: fetched(client, web.address()))


def test_servers_reach_each_other_over_ipv6(boot):
    web, client = boot(), boot()
    web.run("mkdir -p /tmp; " + SERVE.format(port="[::]:80"))
    address = web.address(version=6)
    assert f"inet6 {address}/64" in web.run("ip -o addr show dev eth0")
    assert eventually(lambda: fetched(client, address))


def test_ssh_works_at_a_floating_ip(boot, floating_ip):
    server = boot(images.DEBIAN, flavor="docker.small", key_name="quickstart")
    address = floating_ip(server)
    path = str(cloud.directory() / "quickstart.key")

    def log_in():
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        try:
            client.connect(
                address,
                username="root",
                key_filename=path,
                look_for_keys=False,
                allow_agent=False,
                timeout=5,
            )
            return client.exec_command("hostname")[1].read().decode()
        except (OSError, paramiko.SSHException):
            return None
        finally:
            client.close()

    assert eventually(log_in) == "test\n"


def test_a_server_reaches_another_at_its_floating_ip(boot, floating_ip):
    web, client = boot(), boot()
    # Open to all: the client has another address outside.
    web.run("mkdir -p /tmp; " + SERVE.format(port=22))
    address = floating_ip(web)
    assert eventually(lambda: fetched(client, address, 22))
    floating_ip(client)
    assert eventually(lambda: fetched(client, address, 22))


@pytest.fixture
def group(demo):
    created = demo.network.create_security_group(name="test")
    yield created
    demo.network.delete_security_group(created)


def test_security_group_rules_open_and_close_a_port(group, boot, floating_ip, demo):
    server = boot(security_groups=[{"name": group.id}])
    server.run("mkdir -p /tmp; " + SERVE.format(port=8080))
    address = floating_ip(server)

    rule = demo.network.create_security_group_rule(
        security_group_id=group.id,
        direction="ingress",
        ethertype="IPv4",
        protocol="tcp",
        port_range_min=8080,
        port_range_max=8080,
    )
    assert eventually(lambda: opens(address, 8080))
    assert not opens(address, 22)

    demo.network.delete_security_group_rule(rule)
    assert eventually(lambda: not opens(address, 8080))


@pytest.fixture
def second_network(demo):
    network = demo.network.create_network(name="test", mtu=1300)
    demo.network.create_subnet(
        name="test",
        network_id=network.id,
        ip_version=4,
        cidr="10.77.0.0/24",
        gateway_ip=None,
        dns_nameservers=["192.0.2.53"],
        host_routes=[{"destination": "198.18.0.0/15", "nexthop": "10.77.0.9"}],
    )
    yield network
    demo.network.delete_network(network)


def test_two_nics_have_the_requested_order(second_network, boot, demo):
    private = demo.network.find_network("private")
    server = boot(networks=[{"uuid": second_network.id}, {"uuid": private.id}])

    first, second = server.port(second_network.id), server.port(private.id)
    links = server.run("cat /sys/class/net/eth*/address /sys/class/net/eth0/mtu")
    assert links.split() == [first.mac_address, second.mac_address, "1300"]
    routes = server.run("ip route")
    assert "198.18.0.0/15 via 10.77.0.9 dev eth0" in routes
    assert "default via 10.20.0.1 dev eth1" in routes
    assert "nameserver 192.0.2.53" in server.run("cat /etc/resolv.conf")


def test_the_port_of_an_active_server_is_active(boot, demo):
    server = boot()
    assert server.port().status == "ACTIVE"
