# SPDX-License-Identifier: Apache-2.0
"""Rescuing servers on a real engine."""

from __future__ import annotations

import pytest
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import vm_states

from docker_engine import errors
from nova_docker import rescue
from nova_docker.container import naming
from nova_docker.driver import CONF
from tests import samples

MOUNT_POINT = rescue.MOUNT_POINT


@pytest.fixture
def broken(boot, image):
    """A server with a file to repair, and a volume of its image."""
    server = boot(image(config={"Cmd": ["cat"], "Volumes": {"/data": {}}}))
    server.run("echo broken > /state; echo kept > /data/file; busybox chmod 600 /state")
    return server


@pytest.fixture
def tools(image):
    """A rescue image that has a file where the server will be mounted."""
    return image(files={"tool": b"", "mnt/rescue/of-the-image": b""})


@pytest.fixture
def to_rescue(driver):
    """Rescues a server as Nova's manager does: it powers the server off first."""

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
        server.instance.vm_state = vm_states.RESCUED

    return call


@pytest.fixture
def to_unrescue(driver, mocker):
    def call(server):
        mocker.patch.object(
            objects.Instance, "get_network_info", return_value=server.network_info
        )
        driver.unrescue(samples.request_context(), server.instance)
        server.instance.vm_state = vm_states.ACTIVE

    return call


def test_a_rescue_repairs_a_broken_server(
    driver, broken, tools, to_rescue, to_unrescue
):
    before = broken.inspect()["Id"]

    to_rescue(broken, tools)

    assert driver.get_info(broken.instance).state == power_state.RUNNING
    assert driver.list_instance_uuids() == [broken.instance.uuid]
    assert driver.list_instances() == [broken.instance.name]
    assert broken.inspect()["Id"] != before
    assert "192.0.2.10/24" in broken.run("ip -o addr show dev eth0")
    mounted = broken.run(f"grep ' {MOUNT_POINT} ' /proc/self/mounts")
    assert "nosuid" in mounted and "nodev" in mounted
    listed = broken.run(f"ls /tool {MOUNT_POINT}")
    assert "of-the-image" not in listed
    assert broken.run(f"cat {MOUNT_POINT}/data/file") == "kept\n"
    broken.run(f"echo repaired > {MOUNT_POINT}/state")

    to_unrescue(broken)

    assert broken.inspect()["Id"] == before
    assert driver.get_info(broken.instance).state == power_state.RUNNING
    assert broken.run("cat /state /data/file") == "repaired\nkept\n"
    assert broken.run("ls -l /state").startswith("-rw-------")
    assert "192.0.2.10/24" in broken.run("ip -o addr show dev eth0")
    assert not broken.run("ls").count("of-the-image")


def test_the_broken_root_is_mounted_without_setuid_and_devices(
    broken, tools, to_rescue
):
    to_rescue(broken, tools)
    [options] = [
        line
        for line in broken.run("busybox mount").splitlines()
        if f" {MOUNT_POINT} " in line
    ]
    assert "nosuid" in options and "nodev" in options


@pytest.mark.parametrize("reboot_type", ["SOFT", "HARD"])
def test_a_server_in_rescue_stays_in_rescue_after_a_reboot(
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


def test_a_volume_that_the_engine_has_left_is_removed(
    driver, engine, broken, tools, to_rescue, to_unrescue
):
    before = engine.client.list_volumes()
    to_rescue(broken, tools)
    driver.get_available_resource("test-host")
    assert len(engine.client.list_volumes()) == len(before) + 1
    engine.client.remove_container(broken.inspect()["Id"], volumes=False)
    to_unrescue(broken)
    assert len(engine.client.list_volumes()) == len(before) + 1
    driver.get_available_resource("test-host")
    assert engine.client.list_volumes() == before


def test_a_rescue_survives_a_host_restart(
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


def test_deleting_a_server_in_rescue_removes_both_containers(
    driver, broken, tools, to_rescue
):
    to_rescue(broken, tools)
    driver.destroy(None, broken.instance, broken.network_info)
    # The fixture nothing_is_left checks the rest.
    assert driver.list_instances() == []


def test_a_failed_rescue_restores_the_server(
    driver, broken, image, to_rescue, monkeypatch
):
    before = broken.inspect()["Id"]
    no_such_command = image(properties={"os_command_line": "/no/such"})
    with pytest.raises(exception.InvalidInput):
        to_rescue(broken, no_such_command)
    assert broken.inspect()["Id"] == before
    driver.power_on(None, broken.instance, broken.network_info)
    assert broken.run("cat /state") == "broken\n"

    monkeypatch.setattr("nova_docker.storage.overlay._MAX_OPTIONS", 100)
    with pytest.raises(exception.InstanceNotRescuable, match="layers"):
        to_rescue(broken, image())
    assert broken.inspect()["Id"] == before


def test_a_rescue_whose_first_step_fails_restores_the_server(
    driver, broken, tools, to_rescue, monkeypatch
):
    before = broken.inspect()["Id"]
    rename = driver._client.rename_container

    def rename_and_fail(*names):
        monkeypatch.undo()
        rename(*names)
        raise errors.Timeout("the engine did not answer in time")

    monkeypatch.setattr(driver._client, "rename_container", rename_and_fail)
    with pytest.raises(exception.NovaException, match="in time"):
        to_rescue(broken, tools)
    assert broken.inspect()["Id"] == before


@pytest.mark.parametrize("rescue_container_exists", [False, True])
def test_an_interrupted_rescue_is_rolled_back_at_the_next_start(
    driver, make_driver, broken, tools, to_rescue, to_unrescue, rescue_container_exists
):
    """nova-compute is killed after it has set the server's own container aside."""
    before = broken.inspect()["Id"]
    if rescue_container_exists:
        to_rescue(broken, tools)
    else:
        driver.power_off(broken.instance, 0)
        aside = naming.aside_name_of(broken.instance.uuid)
        broken.engine.client.rename_container(broken.name, aside)

    restarted = make_driver()

    assert restarted.list_instance_uuids() == [broken.instance.uuid]
    if not rescue_container_exists:
        assert broken.inspect()["Id"] == before
    to_rescue(broken, tools)
    assert broken.run(f"cat {MOUNT_POINT}/state") == "broken\n"
    to_unrescue(broken)
    assert broken.inspect()["Id"] == before


@pytest.mark.parametrize(
    ("vm_state", "rolled_back"),
    [(vm_states.ACTIVE, True), (vm_states.RESCUED, False), (vm_states.ERROR, False)],
)
def test_a_rescue_that_nova_has_not_recorded_is_rolled_back_at_the_next_start(
    make_driver, broken, tools, to_rescue, mocker, vm_state, rolled_back
):
    """nova-compute is killed after the rescue, before it tells Nova's database."""
    before = broken.inspect()["Id"]
    to_rescue(broken, tools)
    recorded = samples.instance(uuid=broken.instance.uuid, vm_state=vm_state)
    mocker.patch.object(objects.Instance, "get_by_uuid", return_value=recorded)

    restarted = make_driver()

    assert (broken.inspect()["Id"] == before) == rolled_back
    restarted.power_on(None, broken.instance, broken.network_info)
    where = "/state" if rolled_back else f"{MOUNT_POINT}/state"
    assert broken.run(f"cat {where}") == "broken\n"


def test_unrescue_can_be_repeated(
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


@pytest.mark.parametrize("removed", [False, True], ids=["rescue container", "none"])
def test_a_hard_reboot_ends_an_unrescue_that_has_failed(
    driver, broken, tools, to_rescue, to_unrescue, monkeypatch, removed
):
    """Nova shows the server in ERROR, from where it cannot be unrescued again."""
    before = broken.inspect()["Id"]
    to_rescue(broken, tools)

    def fail(*_, **options):
        raise errors.Unreachable("gone")

    with monkeypatch.context() as patched:
        failing = "rename_container" if removed else "remove_container"
        patched.setattr(driver._client, failing, fail)
        with pytest.raises(exception.NovaException):
            to_unrescue(broken)
    broken.instance.vm_state = vm_states.ERROR
    driver.reboot(None, broken.instance, broken.network_info, "HARD")
    assert broken.inspect()["Id"] == before
    assert broken.run("cat /state") == "broken\n"


def test_a_deleted_server_cannot_be_rescued(driver, image):
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
