# SPDX-License-Identifier: Apache-2.0
"""NICs: how they are configured, plugged and unplugged."""

import contextlib

import os_vif.objects
import pytest
from nova import exception

from nova_docker import conf
from nova_docker import nics
from tests import samples

os_vif.objects.register_all()
conf.register_opts(nics.CONF)


def test_nics_are_named_in_the_requested_order():
    network_info = samples.nics(samples.vif(), samples.vif())
    assert [nic["name"] for nic in nics.plan(network_info)] == ["eth0", "eth1"]
    beside_eth0 = nics.plan(network_info, first=1)
    assert [nic["name"] for nic in beside_eth0] == ["eth1", "eth2"]


def test_a_nic_keeps_its_name_and_a_new_one_takes_the_first_free_name():
    kept, new, newer = samples.vif(), samples.vif(), samples.vif()
    planned = nics.plan(
        samples.nics(kept, new, newer), present={kept["devname"]: "eth1"}
    )
    assert [nic["name"] for nic in planned] == ["eth1", "eth0", "eth2"]


def test_a_nic_is_configured_as_neutron_describes_it():
    vif = samples.vif(
        samples.subnet("192.0.2.0/24", "192.0.2.10", gateway="192.0.2.1"),
        samples.subnet("2001:db8::/64", "2001:db8::a", gateway="2001:db8::1"),
        mtu=1300,
    )
    [nic] = nics.plan(samples.nics(vif))
    assert nic == {
        "name": "eth0",
        "host_dev": vif["devname"],
        "mac": vif["address"],
        "mtu": 1300,
        "tx_checksum": False,
        "addresses": [("192.0.2.10", 24), ("2001:db8::a", 64)],
        "routes": [("0.0.0.0/0", "192.0.2.1", 0), ("::/0", "2001:db8::1", 0)],
    }


def test_checksums_are_left_to_the_kernel_datapath():
    kernel = samples.vif(details={"datapath_type": "system"})
    [nic] = nics.plan(samples.nics(kernel))
    assert nic["tx_checksum"]


def two_gateways():
    return samples.nics(
        samples.vif(samples.subnet("192.0.2.0/24", "192.0.2.2", gateway="192.0.2.1")),
        samples.vif(
            samples.subnet("198.51.100.0/24", "198.51.100.2", gateway="198.51.100.1")
        ),
    )


def test_the_first_nic_has_the_default_route():
    first, second = nics.plan(two_gateways())
    assert first["routes"] == [("0.0.0.0/0", "192.0.2.1", 0)]
    assert second["routes"] == [("0.0.0.0/0", "198.51.100.1", 100)]


def test_gvisor_has_no_other_default_route():
    given = two_gateways()
    first, second = nics.plan(given, one_default=True)
    assert first["routes"] == [("0.0.0.0/0", "192.0.2.1", 0)]
    assert second["routes"] == []
    # The names decide, not the order of the ports.
    present = {given[0]["devname"]: "eth1", given[1]["devname"]: "eth0"}
    first, second = nics.plan(given, one_default=True, present=present)
    assert first["routes"] == []
    assert second["routes"] == [("0.0.0.0/0", "198.51.100.1", 0)]


def test_host_routes_come_before_the_default_route_and_may_replace_it():
    vif = samples.vif(
        samples.subnet(
            "192.0.2.0/24",
            "192.0.2.10",
            gateway="192.0.2.1",
            routes={"10.0.0.0/8": "192.0.2.7", "0.0.0.0/0": "192.0.2.9"},
        )
    )
    [nic] = nics.plan(samples.nics(vif))
    assert nic["routes"] == [
        ("10.0.0.0/8", "192.0.2.7", 0),
        ("0.0.0.0/0", "192.0.2.9", 0),
    ]


def test_a_subnet_in_which_the_server_has_no_address_adds_no_route():
    vif = samples.vif(samples.subnet("192.0.2.0/24", gateway="192.0.2.1"))
    [nic] = nics.plan(samples.nics(vif))
    assert nic["routes"] == [] and nic["addresses"] == []


def test_nameservers_of_all_subnets_have_no_duplicates():
    network_info = samples.nics(
        samples.vif(samples.subnet("192.0.2.0/24", dns=("192.0.2.53", "192.0.2.54"))),
        samples.vif(samples.subnet("198.51.100.0/24", dns=("192.0.2.53",))),
    )
    assert nics.nameservers(network_info) == ["192.0.2.53", "192.0.2.54"]


def test_a_port_that_cannot_be_a_veth_is_refused(mocker):
    plug = mocker.patch("nova_docker.privsep.network.plug")
    vhostuser = samples.vif(type="vhostuser", details={"vhostuser_socket": "/s"})
    with pytest.raises(exception.VirtualInterfacePlugException, match="vhostuser"):
        nics.Nics(None).plug(
            samples.instance(), samples.nics(vhostuser), level="shared"
        )
    plug.assert_not_called()


def test_a_leftover_device_is_unplugged_without_its_vif(mocker):
    mocker.patch(
        "nova_docker.privsep.network.describe", return_value=("engine", ["tap1"])
    )
    remove_namespace = mocker.patch("nova_docker.privsep.network.unplug")
    unplug = mocker.patch("os_vif.unplug")
    instance = samples.instance()

    nics.Nics(None).unplug(instance, None)

    [vif, _] = unplug.call_args.args
    assert vif.vif_name == "tap1"
    assert vif.network.bridge == nics.CONF.neutron.ovs_bridge
    remove_namespace.assert_called_once_with(f"nova-{instance.uuid}")


@pytest.mark.parametrize("level", ["user", "shared", "gvisor"])
@pytest.mark.parametrize("renew", [True, False])
def test_a_nic_whose_port_is_gone_is_unplugged_before_the_server_starts(
    mocker, level, renew
):
    kept, new = samples.vif(), samples.vif()
    present = {"tapgone": "eth0", kept["devname"]: "eth1"}
    mocker.patch("nova_docker.privsep.userns.pin")
    mocker.patch("nova_docker.privsep.network.names", return_value=present)
    mocker.patch("os_vif.plug")
    calls = mocker.Mock()
    calls.attach_mock(mocker.patch("os_vif.unplug"), "unplug")
    for name in ("plug", "remove"):
        function = mocker.patch(f"nova_docker.privsep.network.{name}")
        calls.attach_mock(function, name)
    instance = samples.instance()

    nics.Nics(None).plug(instance, samples.nics(kept, new), level=level, renew=renew)

    made = [
        (name, args[0].vif_name if name == "unplug" else args[1])
        for name, args, _ in calls.mock_calls[:-1]
    ]
    gone = [("unplug", "tapgone"), ("remove", "tapgone")]
    assert made == [*(gone if renew else []), ("unplug", new["devname"])]
    [name, (_, _, planned, _), _] = calls.mock_calls[-1]
    assert name == "plug"
    expected = ["eth1", "eth0"] if renew else ["eth1", "eth2"]
    assert [nic["name"] for nic in planned] == expected


@pytest.fixture
def shaped(mocker):
    """Plugs a NIC of a flavor; returns the calls, and what the kernel is told."""
    for name in ("userns.pin", "network.plug", "network.shape"):
        mocker.patch(f"nova_docker.privsep.{name}")
    mocker.patch("nova_docker.privsep.network.names", return_value={})
    switch = mocker.patch("os_vif.plug")
    mocker.patch("os_vif.unplug")

    def plug(**quotas):
        specs = {f"quota:vif_{name}": str(value) for name, value in quotas.items()}
        instance = samples.instance(flavor=samples.flavor(extra_specs=specs))
        vif = samples.vif()
        calls = mocker.Mock()
        calls.attach_mock(nics.network.shape, "shape")
        calls.attach_mock(switch, "switch")
        nics.Nics(None).plug(instance, samples.nics(vif), level="user")
        return [name for name, _, _ in calls.mock_calls], nics.network.shape.call_args

    return plug


def test_a_nic_has_its_limits_before_the_switch_has_the_nic(shaped):
    names, told = shaped(outbound_average=1000, outbound_peak=3000, outbound_burst=64)
    assert names == ["shape", "switch"]
    average, peak = told.args[2]
    assert (average["rate"], average["burst"]) == (1_000_000, 64 * 1024)
    assert (peak["rate"], peak["burst"]) == (3_000_000, 16 * 1024)


def test_a_flavor_without_limits_costs_a_boot_nothing(shaped):
    names, _ = shaped()
    assert names == ["switch"]


def test_the_namespace_is_removed_even_if_the_switch_refuses(mocker):
    mocker.patch("nova_docker.privsep.network.describe", return_value=("engine", []))
    remove_namespace = mocker.patch("nova_docker.privsep.network.unplug")
    failure = nics.OsVifException("switch is down")
    mocker.patch("os_vif.unplug", side_effect=failure)

    with pytest.raises(exception.VirtualInterfaceUnplugException):
        nics.Nics(None).unplug(samples.instance(), samples.nics(samples.vif()))

    remove_namespace.assert_called_once()


def test_a_sweep_removes_only_unused_namespaces_of_its_own_engine(mocker):
    owners = {
        "nova-kept": "mine",
        "nova-stale": "mine",
        "nova-theirs": "other",
        "someone-elses": "mine",
    }
    mocker.patch("pyroute2.netns.listnetns", return_value=list(owners))
    mocker.patch(
        "nova_docker.privsep.network.describe",
        side_effect=lambda name: (owners[name], []),
    )
    removed = mocker.patch("nova_docker.privsep.network.unplug")
    mocker.patch(
        "nova_docker.privsep.userns.owned_by", return_value=["nova-kept", "nova-old"]
    )
    released = mocker.patch("nova_docker.privsep.userns.release")
    plugger = nics.Nics(None)
    plugger._owner = "mine"

    plugger.sweep(["kept"])

    removed.assert_called_once_with("nova-stale")
    released.assert_called_once_with("nova-old")


class VirtAPI:
    """Replaces Nova's: does not wait, and can time out."""

    def __init__(self, error=None):
        self.error = error
        self.waited_for = None

    class Early(Exception):
        pass

    @contextlib.contextmanager
    def wait_for_instance_event(self, instance, events, timeout, callback):
        self.waited_for = list(events)
        try:
            yield
        except self.Early as early:
            self.waited_for = [each for each in events if each not in early.args[0]]
        if self.error and self.waited_for:
            raise self.error

    def exit_wait_early(self, events):
        raise self.Early(events)


class Ports:
    """Replaces OVN's, which are installed or not."""

    def __init__(self, installed):
        self.installed = installed
        self.ports = None

    @contextlib.contextmanager
    def watched(self, ports):
        self.ports = ports
        yield lambda: bool(ports) and self.installed


OVN = {"bound_drivers": {"0": "ovn"}}


@pytest.mark.parametrize("installed", [True, False])
def test_neutrons_events_are_not_waited_for_if_ovn_has_installed_the_flows(installed):
    virtapi = VirtAPI()
    plugger = nics.Nics(virtapi)
    plugger._ovn = Ports(installed)
    ports = [samples.vif(active=False, details=OVN) for _ in range(2)]
    with plugger.wired(samples.instance(), samples.nics(*ports)):
        expected = list(virtapi.waited_for)
    assert expected == [("network-vif-plugged", port["id"]) for port in ports]
    assert plugger._ovn.ports == [port["id"] for port in ports]
    assert virtapi.waited_for == ([] if installed else expected)


def test_neutrons_event_is_the_only_evidence_for_other_bindings():
    plugger = nics.Nics(VirtAPI())
    plugger._ovn = Ports(installed=True)
    ports = samples.vif(active=False, details=OVN), samples.vif(active=False)
    with plugger.wired(samples.instance(), samples.nics(*ports)):
        pass
    assert plugger._ovn.ports == []
    assert len(plugger._virtapi.waited_for) == 2


def test_a_port_whose_flows_are_not_installed_fails_the_boot():
    plugger = nics.Nics(VirtAPI(exception.InstanceEventTimeout()))
    plugger._ovn = Ports(installed=False)
    port = samples.nics(samples.vif(active=False, details=OVN))
    with (
        pytest.raises(exception.VirtualInterfaceCreateException),
        plugger.wired(samples.instance(), port),
    ):
        pass


def test_a_boot_waits_for_ports_that_are_down():
    virtapi = VirtAPI()
    down, up = samples.vif(active=False), samples.vif(active=True)
    with nics.Nics(virtapi).wired(samples.instance(), samples.nics(down, up)):
        assert virtapi.waited_for == [("network-vif-plugged", down["id"])]


def test_a_boot_does_not_wait_if_the_timeout_is_0():
    nics.CONF.set_override("vif_plugging_timeout", 0)
    try:
        virtapi = VirtAPI()
        down = samples.nics(samples.vif(active=False))
        with nics.Nics(virtapi).wired(samples.instance(), down):
            assert virtapi.waited_for == []
    finally:
        nics.CONF.clear_override("vif_plugging_timeout")


def test_a_port_that_neutron_does_not_wire_fails_the_boot_if_that_is_fatal():
    virtapi = VirtAPI(exception.InstanceEventTimeout())
    down = samples.nics(samples.vif(active=False))
    with (
        pytest.raises(exception.VirtualInterfaceCreateException),
        nics.Nics(virtapi).wired(samples.instance(), down),
    ):
        pass
    nics.CONF.set_override("vif_plugging_is_fatal", False)
    try:
        booted = False
        with nics.Nics(virtapi).wired(samples.instance(), down):
            booted = True
        assert booted
    finally:
        nics.CONF.clear_override("vif_plugging_is_fatal")


def test_ovn_metadata_is_reached_on_the_link_unless_a_subnet_has_a_route():
    subnet = samples.subnet("192.0.2.0/24", "192.0.2.10", gateway="192.0.2.1")
    details = {"bound_drivers": {"0": "ovn"}}
    [nic] = nics.plan(samples.nics(samples.vif(subnet, details=details)))
    assert ("169.254.169.254/32", None, 0) in nic["routes"]
    own = samples.subnet(
        "192.0.2.0/24", "192.0.2.10", routes={"169.254.169.254/32": "192.0.2.2"}
    )
    [nic] = nics.plan(samples.nics(samples.vif(own, details=details)))
    assert nic["routes"] == [("169.254.169.254/32", "192.0.2.2", 0)]
