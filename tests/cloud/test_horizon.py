# SPDX-License-Identifier: Apache-2.0
"""Horizon, used in a browser by an ordinary user of a project."""

from __future__ import annotations

import json

import pytest

from cloud import images
from cloud import settings
from tests.cloud import cloud
from tests.cloud import dashboard
from tests.cloud.conftest import Server
from tests.cloud.conftest import eventually


@pytest.fixture(scope="module")
def horizon(the_cloud):
    """The pages of the user demo, in a cloud with Horizon."""
    cloud.up("--horizon")
    clouds = json.loads((cloud.directory() / "clouds.yaml").read_text())
    auth = clouds["clouds"]["demo"]["auth"]
    with dashboard.chromium() as browser:
        pages = dashboard.Dashboard(browser, settings.HORIZON_URL)
        pages.log_in(auth["username"], auth["password"])
        yield pages


@pytest.fixture
def launch(horizon, boot):
    """Launches a server in the wizard, and waits until the table shows it ACTIVE."""

    def run(name, image=images.BUSYBOX, kind="Image"):
        horizon.open("project/instances/")
        horizon.click("#instances__action_launch-ng")
        horizon.launch(name, image, "docker.tiny", "private", kind)
        server = boot(existing=horizon.server(name))
        horizon.server(name, "Active")
        return server

    return run


def test_a_user_launches_a_server_in_the_wizard_and_deletes_it(horizon, launch):
    server = launch("hz-web")
    horizon.screenshot("servers")
    horizon.act(server.id, "delete")
    horizon.click(".modal.in .btn-danger")
    assert eventually(lambda: not horizon.row("hz-web"))
    assert eventually(lambda: is_gone(server))


def is_gone(server: Server) -> bool:
    return server.id not in {found.id for found in server.user.compute.servers()}


def test_the_console_in_a_servers_page_is_a_terminal(horizon, boot):
    server = boot(name="hz-web")
    with horizon.console(server.id) as console:
        console.type("echo $((40 + 2)) €\n")
        console.shows("42 €")
        rows, columns = console.size
        console.type("stty size\n")
        console.shows(f"{rows} {columns}")
        console.type("ip address show eth0\n")
        console.shows(server.address())
        horizon.screenshot("console")
        horizon.browser.set_window_size(800, 600)
        horizon.wait(lambda _: console.size[1] < columns)
        smaller, narrower = console.size
        console.type("clear; stty size\n")
        console.shows(f"{smaller} {narrower}")
    horizon.browser.set_window_size(dashboard.WIDTH, dashboard.HEIGHT)


def test_a_servers_page_shows_its_log_and_its_container(horizon, boot):
    server = boot(name="hz-web", config_drive=True)
    horizon.open_tab(server.id, "log")
    assert "BusyBox" in horizon.find("pre.logs").text
    horizon.open_tab(server.id, "container")
    page = horizon.find("#instance_details__container").text
    horizon.screenshot("container")
    for expected in (images.BUSYBOX, "/bin/sh", "64 MiB", "config_drive"):
        assert expected in page


def test_a_server_is_booted_from_a_snapshot_that_was_taken_in_horizon(
    horizon, launch, boot, demo
):
    server = boot()
    server.run("echo kept > /kept")
    horizon.open("project/instances/")
    horizon.act(server.id, "snapshot")
    horizon.find(".modal.in #id_name").send_keys("hz-snapshot")
    horizon.submit()
    snapshot = eventually(lambda: demo.image.find_image("hz-snapshot"))
    try:
        assert eventually(lambda: demo.image.get_image(snapshot).status == "active")
        copy = launch("hz-copy", "hz-snapshot", "Instance Snapshot")
        assert copy.run("cat /kept") == "kept\n"
    finally:
        demo.image.delete_image(snapshot)


def test_an_interface_is_attached_in_horizon(horizon, boot, demo):
    server = boot()
    horizon.open("project/instances/")
    horizon.act(server.id, "attach_interface")
    horizon.choose("network", "private")
    horizon.submit()
    assert eventually(lambda: len(list(demo.network.ports(device_id=server.id))) == 2)
    assert eventually(
        lambda: (
            server.run("cat /sys/class/net/eth1/operstate 2>&1", check=False) == "up\n"
        )
    )


def test_a_volume_is_attached_in_horizon(horizon, volume, boot):
    attached = volume(name="hz-volume")
    server = boot()
    horizon.open("project/instances/")
    horizon.act(server.id, "attach_volume")
    horizon.choose("volume", "hz-volume")
    horizon.submit()
    attached.until("in-use")
    device = attached.show().attachments[0]["device"]
    assert server.run(f"test -b {device} && echo block") == "block\n"
    horizon.open_tab(server.id, "container")
    assert device in horizon.find("#instance_details__container").text
