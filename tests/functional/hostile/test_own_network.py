# SPDX-License-Identifier: Apache-2.0
"""Servers that change their own NICs, and the driver, on a real engine."""

from __future__ import annotations

import contextlib
import os
import subprocess

import pytest
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from nova_docker import nics
from nova_docker.container import naming
from nova_docker.privsep import netns_names
from nova_docker.privsep import network
from nova_docker.privsep import userns
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually


@pytest.fixture
def others_device():
    """A device of the host that is no server's, and is up."""
    name = "nd-" + samples.uuid()[:8]
    with IPRoute() as host:
        host.link("add", ifname=name, kind="bridge")
        host.link("set", ifname=name, state="up")
        yield name
        host.link("del", ifname=name)


@pytest.fixture
def elsewhere():
    """Starts a process in a server's user namespace and a new network namespace."""
    started = []

    def start(server):
        command = ["nsenter", f"--target={server.pid}", "--user", "--setuid=0"]
        process = subprocess.Popen([*command, "unshare", "--net", "sleep", "300"])
        started.append(process)
        own = os.stat("/proc/self/ns/net").st_ino

        def has_left():
            with contextlib.suppress(OSError):
                return os.stat(f"/proc/{process.pid}/ns/net").st_ino != own

        assert eventually(has_left)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def ip(server, command):
    server.as_root("ip", *command.split())


def link(device):
    """Return a device of the host, or None."""
    with IPRoute() as host, contextlib.suppress(NetlinkError):
        return host.link("get", ifname=device)[0]
    return None


def is_up(device):
    return bool(link(device)["flags"] & 1)


def works(server, address="192.0.2.10/24", name="eth0"):
    """Return whether a NIC is as Neutron has described it."""
    mac = next(v["address"] for v in server.network_info)
    shown = server.run("ip addr show dev " + name)
    return mac in shown and address in shown and ",UP" in shown


def rename(server, elsewhere):
    ip(server, "link set eth0 down")
    ip(server, "link set eth0 name uplink")


def impersonate(server, elsewhere):
    """Swap names, and change the hardware address."""
    rename(server, elsewhere)
    ip(server, "link set uplink address 02:00:00:00:00:01")
    ip(server, "link add eth0 type bridge")


def delete(server, elsewhere):
    ip(server, "link del eth0")


def move(server, elsewhere):
    ip(server, f"link set eth0 netns {elsewhere(server)}")


def bridge(server, elsewhere):
    ip(server, "link add br0 type bridge")
    ip(server, "link set eth0 master br0")
    ip(server, "addr flush dev eth0")
    ip(server, "addr add 203.0.113.9/24 dev br0")
    ip(server, "link set lo down")


ATTACKS = [rename, impersonate, delete, move, bridge]


@attack(
    "Hide a NIC from the driver",
    tried="root in a server renames its NIC, changes its address, puts another link in "
    "its place, deletes it, or moves it to another namespace; then the server is "
    "frozen, its port is detached, and the server is deleted",
    held_by="the driver finds NICs by their ends on the host, which servers cannot "
    "change",
)
@pytest.mark.parametrize("hide", ATTACKS)
def test_a_hidden_nic_is_cut_detached_and_deleted(
    driver, boot, nic, switch, elsewhere, hide
):
    first = nic(samples.subnet("192.0.2.0/24", "192.0.2.10"))
    second = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))
    server = boot(nics=[first, second])
    hide(server, elsewhere)
    devices = {first["devname"], second["devname"]}

    driver.pause(server.instance)
    assert not any(is_up(device) for device in devices if link(device))
    driver.unpause(server.instance)
    assert all(is_up(device) for device in devices if link(device))

    driver.detach_interface(None, server.instance, first)
    server.network_info.remove(first)
    assert link(first["devname"]) is None
    assert switch.ports() == {second["devname"]}
    assert is_up(second["devname"])

    driver.destroy(None, server.instance, server.network_info)
    assert link(second["devname"]) is None
    assert switch.ports() == set()


@attack(
    "Break the own network for good",
    tried="root in a server hides its NIC from the driver, and removes its addresses",
    held_by="a server gets a new network namespace at each start; its NICs are moved "
    "there, or made anew",
)
@pytest.mark.parametrize("hide", ATTACKS)
def test_a_hard_reboot_repairs_the_network(driver, boot, switch, elsewhere, hide):
    server = boot()
    [vif] = server.network_info
    hide(server, elsewhere)
    if hide is not bridge:
        assert not works_or_false(server)

    driver.reboot(None, server.instance, server.network_info, "HARD")

    assert works(server)
    assert server.run("ls /sys/class/net").split() == ["eth0", "lo"]
    assert "UP" in server.run("ip addr show dev lo")
    assert "203.0.113" not in server.run("ip addr")
    assert switch.ports() == {vif["devname"]}
    assert switch.interface(vif["devname"])["iface-id"] == vif["id"]
    assert is_up(vif["devname"])


def works_or_false(server):
    with contextlib.suppress(subprocess.CalledProcessError):
        return works(server)
    return False


@attack(
    "Break the restart of nova-compute",
    tried="root in a server deletes its NIC and gives its name to another link; then "
    "nova-compute plugs the NICs of all servers",
    held_by="the NIC is plugged under the first free name, until the server starts "
    "again",
)
def test_a_nic_that_a_server_has_deleted_is_plugged_again(driver, boot):
    server = boot()
    [vif] = server.network_info
    ip(server, "link del eth0")
    ip(server, "link add eth0 type bridge")

    driver.plug_vifs(server.instance, server.network_info)

    assert is_up(vif["devname"])
    assert works(server, name="eth1")
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert works(server)


@attack(
    "The network that the driver configures",
    tried="root in a server adds an address and changes the MTU of its NIC, and then "
    "nova-compute plugs the NICs of all servers",
    held_by="the driver leaves a NIC alone inside of a running server",
)
def test_what_a_server_has_configured_stays_until_it_starts_again(driver, boot):
    server = boot()
    ip(server, "addr add 192.0.2.99/24 dev eth0")
    ip(server, "link set eth0 mtu 1300")

    driver.plug_vifs(server.instance, server.network_info)

    shown = server.run("ip addr show dev eth0")
    assert "192.0.2.99/24" in shown and "mtu 1300" in shown


@attack(
    "Take a name that a NIC is to have",
    tried="root in a server adds links called eth1 and eth2; then ports are attached",
    held_by="a NIC whose name is taken gets the first free one",
)
def test_a_port_is_attached_beside_links_of_the_server(driver, boot, nic):
    server = boot()
    for name in ("eth1", "eth2"):
        ip(server, f"link add {name} type veth peer name {name}-peer")
    vif = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))

    driver.attach_interface(None, server.instance, None, vif)
    server.network_info.append(vif)

    assert "203.0.113.5/24" in server.run("ip addr show dev eth3")
    driver.reboot(None, server.instance, server.network_info, "HARD")
    assert server.run("ls /sys/class/net").split() == ["eth0", "eth1", "lo"]
    assert "203.0.113.5/24" in server.run("ip addr show dev eth1")


@attack(
    "Make the driver change a device of the host",
    tried="root in a server makes pairs of links with the names and the interface "
    "indexes of a device of the host and of another server's NIC; then the server is "
    "frozen, gets another port, and is deleted",
    held_by="the driver asks the kernel in which namespace the peer of a link is",
)
def test_links_of_a_server_do_not_stand_for_devices_of_the_host(
    driver, boot, nic, others_device
):
    server, neighbour = boot(), boot()
    [theirs] = neighbour.network_info
    for number, device in enumerate((others_device, theirs["devname"])):
        index = link(device)["index"]
        made = f"v{number} index {index} type veth peer name {device} index {index + 1}"
        ip(server, f"link add {made}")

    driver.pause(server.instance)
    assert is_up(others_device) and is_up(theirs["devname"])
    driver.unpause(server.instance)
    vif = nic(samples.subnet("203.0.113.0/24", "203.0.113.5"))
    driver.attach_interface(None, server.instance, None, vif)
    driver.detach_interface(None, server.instance, vif)
    driver.reboot(None, server.instance, server.network_info, "HARD")
    driver.destroy(None, server.instance, server.network_info)
    assert is_up(others_device) and is_up(theirs["devname"])
    assert works(neighbour, "192.0.2.11/24")


@attack(
    "Pass for a server of another engine",
    tried="root in a server changes the alias of lo, in which servers without a user "
    "namespace have the name of their engine; then nova-compute starts again",
    held_by="the engine of a server with a user namespace is in a file of the host",
)
def test_a_server_cannot_change_the_engine_that_it_belongs_to(
    driver, boot, make_driver
):
    server, neighbour = boot(), boot()
    owner = network.describe(server.name)[0]
    assert owner == driver._host.engine_id
    for command in ("link set lo alias other", "link set eth0 alias nova-x"):
        ip(server, command)
    assert network.describe(server.name)[0] == owner
    make_driver()
    assert works(server) and works(neighbour, "192.0.2.11/24")

    # Nor does it become another engine's.
    stranger = naming.name_of(samples.uuid())
    userns.pin(stranger, "other engine", 65536 * 20000, 65536)
    network.plug(stranger, "other engine", [], isolated=True)
    try:
        with netns_names.inside(stranger), IPRoute() as inner:
            inner.link("set", index=1, ifalias=owner)
        make_driver()
        assert network.describe(stranger)[0] == "other engine"
        assert userns.base_of(stranger) is not None
    finally:
        network.unplug(stranger)
        userns.release(stranger)


@attack(
    "A device of the host as a NIC",
    tried="a port whose device has the name of a device of the host, or of another "
    "server's NIC",
    held_by="the driver plugs and removes only devices that it has marked for the "
    "server, or whose peer is in the server's namespace",
)
def test_a_device_of_the_host_or_of_another_server_is_never_plugged(
    boot, nic, others_device
):
    server, neighbour = boot(), boot()
    [theirs] = neighbour.network_info
    for device in (others_device, theirs["devname"]):
        planned = nics.plan([nic(devname=device)])
        with pytest.raises(FileExistsError):
            network.plug(server.name, "", planned, isolated=True)
        network.remove(server.name, device)
        assert is_up(device)
    assert works(neighbour, "192.0.2.11/24")
