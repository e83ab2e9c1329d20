# SPDX-License-Identifier: Apache-2.0
"""The configuration files of the cloud and of its hosts."""

from __future__ import annotations

import configparser
import grp
import itertools
import os

import pytest
from oslo_config import cfg

from cloud import configuration
from cloud import settings
from cloud import state
from cloud.hosts import host as hosts
from nova_docker import conf


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """The directory of the files of a cloud with as many hosts as possible."""
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")
    monkeypatch.setattr(settings, "CLOUDS_YAML", tmp_path / "clouds.yaml")
    for module in configuration, hosts:
        monkeypatch.setattr(module, "ETC", tmp_path)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    nobody = grp.struct_group(("nova", "x", 1, []))
    monkeypatch.setattr(grp, "getgrnam", lambda name: nobody)
    hosts.set_count(hosts.MOST)
    configuration.write()
    return tmp_path


def options(*files):
    found = cfg.ConfigOpts()
    conf.register_opts(found)
    found(["--config-file=" + str(file) for file in files])
    return found


def test_servers_of_different_hosts_have_different_ids(etc):
    first = etc / "nova/nova.conf"
    files = [(first, other.etc / "nova.conf") for other in hosts.others()]
    assert len(files) == hosts.MOST - 1
    found = [options(*each).docker for each in [(first,), *files]]
    ranges = sorted((each.subid_start, each.subid_count) for each in found)
    for (start, count), (following, _) in itertools.pairwise(ranges):
        assert start + count <= following


def test_each_nova_compute_uses_the_engine_of_its_own_host(etc):
    for host in hosts.others():
        found = options(etc / "nova/nova.conf", host.etc / "nova.conf")
        assert found.docker.host == f"unix://{host.engine}"


def test_a_host_has_a_name_of_its_own(etc):
    names = set()
    for host in hosts.others():
        parser = configparser.RawConfigParser()
        parser.read(host.etc / "nova.conf")
        names.add(parser["DEFAULT"]["host"])
    assert names == {host.name for host in hosts.others()}


def test_the_privileged_daemons_of_a_host_read_its_configuration(etc):
    [host, *_] = hosts.others()
    parser = configparser.RawConfigParser()
    parser.read(host.etc / "nova.conf")
    key = "helper_command"
    commands = [section[key] for section in parser.values() if key in section]
    assert len(commands) == 3
    assert all(command.endswith(f" {host.etc}/nova.conf") for command in commands)


def test_all_files_are_complete(etc):
    for path in etc.rglob("*.*"):
        if path.is_file() and "cinder/python" not in str(path):
            assert "$host_" not in path.read_text()


def test_a_cloud_of_one_machine_has_no_files_of_hosts(etc, tmp_path, monkeypatch):
    elsewhere = tmp_path / "alone"
    for module in configuration, hosts:
        monkeypatch.setattr(module, "ETC", elsewhere)
    hosts.set_count(1)
    configuration.write()
    found = {path.name for path in (elsewhere / "hosts").iterdir()}
    assert found == {"first.nft", "other.nft"}
