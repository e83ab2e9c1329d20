# SPDX-License-Identifier: Apache-2.0
"""Ports of OVN, whose flows are installed in a real Open vSwitch by the tests."""

from __future__ import annotations

import pytest

from nova_docker import ovn
from tests import samples
from tests.functional import ovs


@pytest.fixture
def install(switch):
    """Do what os-vif does for a port, and then what ovn-controller does."""
    names = []

    def install(port, value="true"):
        name = "nd" + port[:8]
        names.append(name)
        external_ids = ("external_ids", {"iface-id": port})
        with switch.api.transaction(check_error=True) as transaction:
            transaction.add(switch.api.add_port(ovs.BRIDGE, name))
            transaction.add(switch.api.db_set("Interface", name, external_ids))
        installed = ("external_ids", {"ovn-installed": value})
        switch.api.db_set("Interface", name, installed).execute(check_error=True)

    yield install
    for name in names:
        switch.api.del_port(name).execute(check_error=True)


@pytest.fixture
def ports(configuration, monkeypatch):
    monkeypatch.setattr(ovn, "_SECONDS", 2)
    return ovn.Ports()


def test_the_wait_ends_when_the_flows_of_all_ports_are_installed(ports, install):
    first, second = samples.uuid(), samples.uuid()
    with ports.watched([first, second]) as are_installed:
        install(first)
        install(second)
        assert are_installed()


def test_one_port_of_two_is_not_enough(ports, install):
    first, second = samples.uuid(), samples.uuid()
    with ports.watched([first, second]) as are_installed:
        install(first)
        install(second, "false")
        install(samples.uuid())
        assert not are_installed()


def test_servers_are_told_apart(ports, install):
    """They are watched at the same time."""
    mine, other = samples.uuid(), samples.uuid()
    with ports.watched([mine]) as mine_is, ports.watched([other]) as other_is:
        install(mine)
        assert mine_is()
        assert not other_is()


def test_nothing_is_watched_afterwards(ports, install):
    with ports.watched([samples.uuid()]):
        pass
    assert not list(ports._interfaces.handler._watched_events)


def test_the_watch_survives_a_restart_of_the_database(ports, install, switch):
    with ports.watched([samples.uuid()]):
        pass
    ports._interfaces.force_reconnect()
    port = samples.uuid()
    with ports.watched([port]) as are_installed:
        install(port)
        assert are_installed()


def test_an_ovn_that_reports_nothing_is_not_waited_for_long_again(ports, monkeypatch):
    """Until it reports a port."""
    monkeypatch.setattr(ovn, "_SECONDS", 30)
    monkeypatch.setattr(ovn, "_SECONDS_IN_DOUBT", 0.01)
    ports._in_doubt = True
    with ports.watched([samples.uuid()]) as are_installed:
        assert not are_installed()


def test_without_a_switch_there_is_nothing_to_wait_for(ports, monkeypatch, caplog):
    monkeypatch.setattr(
        "nova_docker.ovn.CONF.os_vif_ovs.ovsdb_connection", "unix:/nowhere"
    )
    with ports.watched([samples.uuid()]) as are_installed:
        assert not are_installed()
    assert "waiting for Neutron's events instead" in caplog.text
