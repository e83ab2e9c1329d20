# SPDX-License-Identifier: Apache-2.0
"""Rescuing and unrescuing servers."""

from __future__ import annotations

import pytest

from nova_docker.container.naming import aside_name_of
from nova_docker.container.naming import name_of
from nova_docker.rescue import MOUNT_POINT
from tests import archives


@pytest.fixture
def tools(upload, demo):
    """The ID of a rescue image, which contains the file /tool."""
    name = upload(archives.busybox_archive(files={"tool": b""}))
    return demo.image.find_image(name).id


@pytest.fixture
def broken(boot):
    server = boot()
    server.run("echo broken > /state")
    return server


def rescue(server, image=None):
    server.act("rescue_server", None, image, until="RESCUE")


def test_a_server_is_repaired_from_a_rescue_image(broken, tools, engine):
    before = engine.inspect_container(name_of(broken.id))["Id"]
    rescue(broken, tools)
    assert broken.run(f"ls /tool; cat {MOUNT_POINT}/state") == "/tool\nbroken\n"
    assert broken.address() in broken.run("ip -o addr show dev eth0")
    broken.run(f"echo repaired > {MOUNT_POINT}/state")

    broken.act("unrescue_server", until="ACTIVE")
    assert engine.inspect_container(name_of(broken.id))["Id"] == before
    assert broken.run("cat /state") == "repaired\n"
    assert broken.address() in broken.run("ip -o addr show dev eth0")


def test_a_stopped_server_is_rescued_with_its_own_image(broken):
    broken.act("stop_server", until="SHUTOFF")
    rescue(broken)
    assert broken.run(f"cat {MOUNT_POINT}/state") == "broken\n"
    broken.act("unrescue_server", until="ACTIVE")
    assert broken.run("cat /state") == "broken\n"


def test_a_server_in_error_can_be_rescued(broken, admin, tools):
    admin.compute.reset_server_state(broken.id, "error")
    rescue(broken, tools)
    assert broken.run(f"cat {MOUNT_POINT}/state") == "broken\n"


def test_a_server_survives_a_failed_rescue(broken, upload, demo, engine):
    bad = upload(archives.busybox_archive(config={"Entrypoint": ["/no/such"]}))
    broken.act("rescue_server", None, demo.image.find_image(bad).id, until="ERROR")
    assert "/no/such" in broken.show().fault["message"]
    assert not engine.list_containers(filters={"name": [aside_name_of(broken.id)]})
    broken.act("reboot_server", "HARD", until="ACTIVE")
    assert broken.run("cat /state") == "broken\n"


def test_deleting_a_server_in_rescue_removes_both_containers(broken, engine):
    rescue(broken)
    assert engine.inspect_container(aside_name_of(broken.id))
    # The fixtures delete the server and check that nothing is left.
