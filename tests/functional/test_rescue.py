# SPDX-License-Identifier: Apache-2.0
"""Rescuing servers on a real engine."""

from __future__ import annotations

import pytest
from nova import exception
from nova import objects
from nova.compute import power_state

from docker_engine import errors
from nova_docker import rescue
from nova_docker.container import naming
from nova_docker.driver import CONF
from nova_docker.storage import overlay
from tests import samples

MOUNT_POINT = rescue.MOUNT_POINT


@pytest.fixture
def broken(boot, image):
    """A server whose file must be mended, with a volume of its image."""
    server = boot(image(config={"Cmd": ["cat"], "Volumes": {"/data": {}}}))
    server.run("echo broken > /state; echo kept > /data/file; busybox chmod 600 /state")
    return server


@pytest.fixture
def tools(image):
    """An image to rescue with, which has something where the server is mounted."""
    return image(files={"tool": b"", "mnt/rescue/of-the-image": b""})


@pytest.fixture
def to_rescue(driver):
    """Does what Nova's manager does: switches off, then rescues."""

    def call(server, image_meta):
        driver.power_off(server.instance, 0)
        driver.rescue(
            samples.request_context(),
            server.instance,
            server.network_info,
            image_meta,
            "password",
            {},
            objects.ShareMappingList(),
        )

    return call


@pytest.fixture
def to_unrescue(driver, mocker):
    def call(server):
        mocker.patch.object(
            objects.Instance, "get_network_info", return_value=server.network_info
        )
        driver.unrescue(samples.request_context(), server.instance)

    return call


def test_a_broken_server_is_mended(driver, broken, tools, to_rescue, to_unrescue):
    before = broken.inspect()["Id"]

    to_rescue(broken, tools)

    assert driver.get_info(broken.instance).state == power_state.RUNNING
    assert driver.list_instance_uuids() == [broken.instance.uuid]
    assert driver.list_instances() == [broken.instance.name]
    assert broken.inspect()["Id"] != before
    assert "192.0.2.10/24" in broken.run("ip -o addr show dev eth0")
    listed = broken.run(f"ls /tool {MOUNT_POINT}")
    assert "of-the-image" not in listed
    assert broken.run(f"cat {MOUNT_POINT}/data/file") == "kept\n"
    broken.run(f"echo mended > {MOUNT_POINT}/state")

    to_unrescue(broken)

    assert broken.inspect()["Id"] == before
    assert driver.get_info(broken.instance).state == power_state.RUNNING
    assert broken.run("cat /state /data/file") == "mended\nkept\n"
    assert broken.run("ls -l /state").startswith("-rw-------")
    assert "192.0.2.10/24" in broken.run("ip -o addr show dev eth0")
    assert not broken.run("ls").count("of-the-image")


def test_nothing_in_the_broken_root_runs_with_more_rights(broken, tools, to_rescue):
    to_rescue(broken, tools)
    [options] = [
        line
        for line in broken.run("busybox mount").splitlines()
        if f" {MOUNT_POINT} " in line
    ]
    assert "nosuid" in options and "nodev" in options


@pytest.mark.parametrize("reboot_type", ["SOFT", "HARD"])
def test_a_reboot_stays_in_the_rescue(
    driver, broken, tools, to_rescue, to_unrescue, reboot_type, monkeypatch
):
    monkeypatch.setattr(type(CONF), "shutdown_timeout", 1, raising=False)
    to_rescue(broken, tools)
    driver.reboot(None, broken.instance, broken.network_info, reboot_type)
    assert broken.run(f"ls /tool; cat {MOUNT_POINT}/state") == "/tool\nbroken\n"
    driver.pause(broken.instance)
    driver.unpause(broken.instance)
    to_unrescue(broken)
    assert broken.run("cat /state") == "broken\n"


def test_a_rescue_outlives_a_restart_of_the_host(
    driver, make_driver, broken, tools, to_rescue, to_unrescue, engine
):
    to_rescue(broken, tools)
    engine.stop()
    engine.start()
    driver.unplug_vifs(broken.instance, broken.network_info)
    restarted = make_driver()
    restarted.resume_state_on_host_boot(None, broken.instance, broken.network_info)
    assert broken.run(f"ls /tool; cat {MOUNT_POINT}/state") == "/tool\nbroken\n"
    to_unrescue(broken)
    assert broken.run("cat /state") == "broken\n"


def test_a_server_in_rescue_is_deleted_whole(driver, broken, tools, to_rescue):
    to_rescue(broken, tools)
    driver.destroy(None, broken.instance, broken.network_info)
    # And nothing_is_left says the rest.
    assert driver.list_instances() == []


def test_a_failed_rescue_leaves_the_server_as_it_was(
    driver, broken, image, to_rescue, monkeypatch
):
    before = broken.inspect()["Id"]
    no_such_command = image(properties={"os_command_line": "/no/such"})
    with pytest.raises(exception.InvalidInput):
        to_rescue(broken, no_such_command)
    assert broken.inspect()["Id"] == before
    driver.power_on(None, broken.instance, broken.network_info)
    assert broken.run("cat /state") == "broken\n"

    monkeypatch.setattr(overlay, "_MAX_OPTIONS", 100)
    with pytest.raises(exception.InstanceNotRescuable, match="layers"):
        to_rescue(broken, image())
    assert broken.inspect()["Id"] == before


@pytest.mark.parametrize("container_made", [False, True])
def test_a_rescue_cut_off_in_the_middle_is_mended(
    driver, make_driver, broken, tools, to_rescue, to_unrescue, container_made
):
    """nova-compute was killed when it had set the server aside."""
    before = broken.inspect()["Id"]
    if container_made:
        to_rescue(broken, tools)
    else:
        driver.power_off(broken.instance, 0)
        aside = naming.aside_name_of(broken.instance.uuid)
        broken.engine.client.rename_container(broken.name, aside)

    restarted = make_driver()

    assert restarted.list_instance_uuids() == [broken.instance.uuid]
    if not container_made:
        assert broken.inspect()["Id"] == before
    to_rescue(broken, tools)
    assert broken.run(f"cat {MOUNT_POINT}/state") == "broken\n"
    to_unrescue(broken)
    assert broken.inspect()["Id"] == before


def test_an_unrescue_that_failed_may_be_repeated(
    driver, broken, tools, to_rescue, to_unrescue, monkeypatch
):
    before = broken.inspect()["Id"]
    to_rescue(broken, tools)

    def fail(*_):
        raise errors.Unreachable("gone")

    with monkeypatch.context() as patched:
        patched.setattr(driver._client, "rename_container", fail)
        with pytest.raises(exception.NovaException):
            to_unrescue(broken)
    to_unrescue(broken)
    assert broken.inspect()["Id"] == before
    to_unrescue(broken)
    assert broken.inspect()["Id"] == before


def test_a_server_that_is_gone_cannot_be_rescued(driver, image):
    with pytest.raises(exception.InstanceNotFound):
        driver.rescue(
            samples.request_context(),
            samples.instance(),
            samples.nics(),
            image(),
            None,
            {},
            objects.ShareMappingList(),
        )
