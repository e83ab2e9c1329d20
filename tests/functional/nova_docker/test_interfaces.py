# SPDX-License-Identifier: Apache-2.0
"""Attaching and detaching NICs on a real engine and switch."""

from __future__ import annotations

import contextlib
import subprocess

import pytest
from nova import exception
from pyroute2 import IPRoute
from pyroute2.ethtool.ioctl import IoctlEthtool

from nova_docker.privsep import netns_names
from nova_docker.privsep import network
from tests import samples
from tests.functional.host import eventually


def links(server):
    return server.run("ls /sys/class/net").split()


def serve(server):
    server.run("echo hello > /index.html; httpd -p 80 -h / || true")


def answers(client, address):
    request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n'"
    try:
        return "hello" in client.run(f"{request} | nc -w 5 {address} 80")
    except subprocess.CalledProcessError:
        return False


@pytest.mark.parametrize("state", ["running", "paused", "stopped"])
def test_a_nic_is_attached_in_every_state(driver, boot, nic, state):
    server, client = boot(), boot()
    vif = nic(samples.subnet("192.0.2.0/24", "192.0.2.100"))
    if state == "paused":
        driver.pause(server.instance)
    if state == "stopped":
        driver.power_off(server.instance)

    driver.attach_interface(None, server.instance, None, vif)
    server.network_info.append(vif)

    if state == "paused":
        driver.unpause(server.instance)
    if state == "stopped":
        driver.power_on(None, server.instance, server.network_info)
    assert links(server) == ["eth0", "eth1", "lo"]
    assert "192.0.2.100/24" in server.run("ip -o addr show dev eth1")
    # Only the new NIC is left to answer.
    driver.detach_interface(None, server.instance, server.network_info.pop(0))
    serve(server)
    assert eventually(lambda: answers(client, "192.0.2.100"))


def test_the_remaining_nics_keep_their_names(driver, boot, nic, switch):
    first = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    second = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))
    server = boot(nics=[first, second])

    driver.detach_interface(None, server.instance, first)
    server.network_info.remove(first)

    assert links(server) == ["eth1", "lo"]
    assert switch.ports() == {second["devname"]}
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert links(server) == ["eth1", "lo"]
    assert "203.0.113.5/24" in server.run("ip -o addr show dev eth1")
    driver.attach_interface(None, server.instance, None, first)
    server.network_info.append(first)
    assert links(server) == ["eth0", "eth1", "lo"]


@pytest.mark.parametrize("level", ["user", "shared", "gvisor"])
def test_a_nic_whose_port_was_deleted_is_gone_after_a_restart(
    driver, boot, nic, switch, level
):
    first = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    second = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))
    flavor = samples.flavor(extra_specs={"docker:isolation": level})
    server = boot(nics=[first, second], flavor=flavor)
    # As if the NIC could not be detached: gVisor refuses, or the engine did not answer.
    server.network_info.remove(first)

    driver.power_off(server.instance)
    driver.power_on(None, server.instance, server.network_info)

    assert switch.ports() == {second["devname"]}
    assert network.names(server.name) == {second["devname"]: "eth1"}
    assert "203.0.113.5/24" in server.run("ip addr show dev eth1")


def test_detaching_twice_has_no_effect(driver, boot):
    server = boot()
    [vif] = server.network_info
    for _ in range(2):
        driver.detach_interface(None, server.instance, vif)
    assert links(server) == ["lo"]


def test_a_failed_attachment_leaves_nothing(driver, boot, nic, switch):
    server = boot()
    before = switch.ports()
    vif = nic(samples.subnet("192.0.2.0/24", "192.0.2.100"), vnic_type="direct")
    vif["type"] = "hw_veb"
    with pytest.raises(exception.InterfaceAttachFailed):
        driver.attach_interface(None, server.instance, None, vif)
    assert links(server) == ["eth0", "lo"]
    assert switch.ports() == before


def test_an_attachment_that_cannot_be_saved_leaves_nothing(
    driver, boot, nic, switch, monkeypatch
):
    server = boot()
    before = switch.ports()
    vif = nic(samples.subnet("192.0.2.0/24", "192.0.2.100"))

    def fail(instance):
        raise exception.InstanceNotFound(instance_id=instance.uuid)

    monkeypatch.setattr("nova.objects.Instance.save", fail)
    with pytest.raises(exception.InterfaceAttachFailed):
        driver.attach_interface(None, server.instance, None, vif)
    assert links(server) == ["eth0", "lo"]
    assert switch.ports() == before


def test_a_server_is_reachable_again_after_its_namespace_is_lost(driver, boot):
    server, client = boot(), boot()
    driver.power_off(server.instance)
    # As a restart of the host does; the switch still has the port.
    network.unplug(server.name)

    driver.power_on(None, server.instance, server.network_info)

    serve(server)
    assert eventually(lambda: answers(client, "192.0.2.10"))


def test_a_nic_that_an_earlier_release_has_plugged_keeps_its_name(driver, boot, nic):
    shared = samples.flavor(extra_specs={"docker:isolation": "shared"})
    first = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    second = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))
    server = boot(nics=[first, second], flavor=shared)
    driver.detach_interface(None, server.instance, first)
    server.network_info.remove(first)
    with IPRoute() as host:
        host.link("set", ifname=second["devname"], ifalias=server.name)

    assert network.names(server.name) == {second["devname"]: "eth1"}
    assert network.describe(server.name) == (
        driver._host.engine_id,
        [second["devname"]],
    )
    driver.attach_interface(None, server.instance, None, first)
    server.network_info.append(first)
    driver.plug_vifs(server.instance, server.network_info)
    assert network.names(server.name) == {
        first["devname"]: "eth0",
        second["devname"]: "eth1",
    }
    assert links(server) == ["eth0", "eth1", "lo"]


def test_a_nic_on_a_userspace_datapath_computes_its_own_checksums(boot):
    with (
        netns_names.inside(boot().name),
        contextlib.closing(IoctlEthtool("eth0")) as nic,
    ):
        features = nic.get_features()
    assert features.is_available("tx-checksum-ip-generic")
    assert not features["tx-checksum-ip-generic"]
    assert not features["tx-checksum-sctp"]
