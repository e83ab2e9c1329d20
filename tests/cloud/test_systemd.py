# SPDX-License-Identifier: Apache-2.0
"""Servers whose first process is systemd, in a real cloud."""

from __future__ import annotations

import base64

import paramiko
import pytest

from cloud import images
from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud import cloud
from tests.cloud.conftest import eventually

FLAVOR = "docker.small"
USER_DATA = """#cloud-config
write_files: [{path: /srv/note, content: from the user}]
runcmd: [[touch, /srv/ran]]
"""


@pytest.fixture(scope="module")
def debian(the_cloud):
    """The name of the quickstart's image with systemd."""
    cloud.make_systemd()
    return images.SYSTEMD


@pytest.fixture
def boot_systemd(boot, debian):
    """Boots a server, and waits until systemd and cloud-init have finished."""

    def start(image=debian, **values):
        # Without a config drive, cloud-init resolves names first, which takes half a
        # minute in a network without a name server.
        values = {
            "key_name": "quickstart",
            "flavor": FLAVOR,
            "config_drive": True,
        } | values
        server = boot(image, **values)
        assert is_running(server), server.console()
        return server

    return start


def is_running(server):
    """Wait until a server has started everything; return whether nothing has failed."""
    command = "systemctl is-system-running"

    def finished():
        found = server.run(command, check=False).strip()
        return found if found in ("running", "degraded") else None

    return eventually(finished) == "running"


def started(engine, server):
    return engine.inspect_container(name_of(server.id))["State"]["StartedAt"]


def log_in(address, command):
    """Run a command as the image's user through SSH; None if that fails."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    try:
        client.connect(
            address,
            username="debian",
            key_filename=str(cloud.directory() / "quickstart.key"),
            allow_agent=False,
            look_for_keys=False,
            timeout=5,
        )
        return client.exec_command(command)[1].read().decode()
    except (OSError, paramiko.SSHException):
        return None
    finally:
        client.close()


@pytest.mark.parametrize("config_drive", [True, False])
def test_cloud_init_and_ssh_work_as_in_a_virtual_machine(
    boot_systemd, floating_ip, config_drive
):
    server = boot_systemd(
        config_drive=config_drive,
        user_data=base64.b64encode(USER_DATA.encode()).decode(),
    )
    address = floating_ip(server)
    assert eventually(lambda: log_in(address, "hostname")) == "test\n"
    # logind has a session for it, and sudo works.
    assert "debian" in log_in(address, "loginctl list-sessions --no-legend")
    assert log_in(address, "sudo id --user --name") == "root\n"
    assert log_in(address, "cat /srv/note; ls /srv") == "from the usernote\nran\n"
    assert server.address() in server.run("ip address show dev eth0")
    warnings = "grep -E 'WARNING|ERROR' /var/log/cloud-init.log || true"
    assert server.run(warnings) == ""


def test_poweroff_and_start(boot_systemd):
    server = boot_systemd()
    server.run("systemctl poweroff", check=False)
    assert eventually(lambda: server.status == "SHUTOFF")
    server.act("start_server", until="ACTIVE")
    assert is_running(server)


def test_a_reboot_from_inside_is_not_noticed(boot_systemd, engine, demo, floating_ip):
    server = boot_systemd()
    address = floating_ip(server)
    before = started(engine, server)
    server.run("systemctl reboot", check=False)
    assert eventually(lambda: started(engine, server) != before)
    assert is_running(server)
    assert server.status == "ACTIVE"
    # Nova has done nothing but create it.
    actions = [found.action for found in demo.compute.server_actions(server.id)]
    assert actions == ["create"]
    assert eventually(lambda: log_in(address, "hostname")) == "test\n"


def test_nova_stops_and_reboots_it_without_waiting_for_the_timeout(
    boot_systemd, engine
):
    server = boot_systemd()
    server.act("stop_server", until="SHUTOFF")
    state = engine.inspect_container(name_of(server.id))["State"]
    assert state["ExitCode"] == 130
    server.act("start_server", until="ACTIVE")
    assert is_running(server)
    before = started(engine, server)
    server.act("reboot_server", "SOFT", until="ACTIVE")
    assert started(engine, server) != before
    assert is_running(server)


def test_a_snapshot_boots(boot_systemd, demo):
    server = boot_systemd()
    server.run("touch /root/kept /tmp/gone")
    image = demo.compute.create_server_image(server.id, "test-systemd", wait=True)
    try:
        again = boot_systemd("test-systemd")
        assert again.run("ls /root") == "kept\n"
        assert "gone" not in again.run("ls /tmp")
        assert again.run("hostname") == "test\n"
    finally:
        demo.image.delete_image(image)


def test_a_flavor_without_user_namespaces_is_refused_with_the_reason(
    boot, debian, flavor
):
    shared = flavor({"docker:isolation": "shared"}, ram=256, disk=2)
    server = boot(debian, flavor=shared, until="ERROR")
    assert "docker:isolation=user" in server.show().fault["message"]


def test_an_image_property_chooses_the_init(boot, upload):
    command = {"Entrypoint": ["sh", "-c", "sleep 1000"]}
    archive = archives.archive([archives.busybox_layer()], config=command)
    server = boot(upload(archive, os_init="docker-init"))
    assert "init" in server.run("cat /proc/1/comm")


def test_an_unknown_init_is_refused_with_the_reason(boot, upload):
    archive = archives.archive([archives.busybox_layer()])
    server = boot(upload(archive, os_init="upstart"), until="ERROR")
    assert "os_init=upstart" in server.show().fault["message"]
