# SPDX-License-Identifier: Apache-2.0
"""Horizon in the cloud that ./quickstart starts."""

from __future__ import annotations

import string

import pytest

from cloud import configuration
from cloud import horizon
from cloud import parts
from cloud import services
from cloud import settings


@pytest.fixture
def local_settings():
    """What Horizon's settings file sets, without what it imports."""
    text = (configuration.TEMPLATES / horizon.SETTINGS).read_text()
    text = string.Template(text).substitute(data="/data", auth_url="http://keystone")
    text = text.replace("from horizon.utils import secret_key", "")
    files = []

    class Key:
        @staticmethod
        def generate_or_read_from_file(path):
            files.append(path)
            return "generated"

    found = {"secret_key": Key}
    exec(text, found)
    assert files == ["/data/horizon/secret_key"]
    return found


def test_horizon_serves_this_machine_only(monkeypatch, local_settings):
    monkeypatch.setattr(parts, "has", lambda part: part == "horizon")
    service = {service.name: service for service in services.services()}["horizon"]
    assert f"--http-socket 127.0.0.1:{service.port} " in service.command
    assert service.user == settings.USER
    assert local_settings["ALLOWED_HOSTS"] == ["127.0.0.1", "localhost"]
    assert local_settings["DEBUG"] is False


def test_idle_connections_of_a_browser_do_not_block_horizon():
    words = services.dashboard().command.split()
    per_host_in_browsers = 6
    assert int(words[words.index("--threads") + 1]) > 2 * per_host_in_browsers


def test_the_wizard_does_not_boot_a_server_from_a_volume(local_settings):
    from openstack_dashboard import defaults

    found = local_settings["LAUNCH_INSTANCE_DEFAULTS"]
    # Horizon ignores names that it does not know.
    assert found.keys() <= defaults.LAUNCH_INSTANCE_DEFAULTS.keys()
    assert found["create_volume"] is False
    assert found["disable_volume"] and found["disable_volume_snapshot"]


def test_a_cloud_has_no_horizon_unless_it_is_wanted(monkeypatch):
    monkeypatch.setattr(parts, "has", lambda part: False)
    assert "horizon" not in {service.name for service in services.services()}


def test_sessions_are_where_only_horizon_reads_them(local_settings):
    from cloud.directories import OWNERS

    path = settings.DATA / "horizon/sessions"
    assert local_settings["SESSION_FILE_PATH"] == "/data/horizon/sessions"
    assert OWNERS[path] == OWNERS[path.parent] == ("nova", "nova", 0o700)


def test_nova_accepts_consoles_from_each_address_of_horizon(local_settings):
    nova = (configuration.TEMPLATES / "nova/nova.conf").read_text()
    hosts = ",".join(local_settings["ALLOWED_HOSTS"])
    assert f"\nallowed_origins = {hosts}\n" in nova
