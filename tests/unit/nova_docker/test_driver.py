# SPDX-License-Identifier: Apache-2.0
"""The driver's module has Nova's verbs only, and logs them as other drivers do."""

from __future__ import annotations

import ast
import contextlib
import inspect
import logging

import pytest
from nova import exception
from nova import objects
from nova.virt import driver as nova_driver
from nova.virt import fake

from docker_engine import errors
from nova_docker import driver as driver_module
from nova_docker.container import isolation
from nova_docker.container import volume_mode
from nova_docker.driver import DockerDriver
from nova_docker.guest import Guest
from nova_docker.guest import Namespaces
from tests import samples
from tests.unit.nova_docker import fake_mode

MAX_STATEMENTS = 17

# Nova 33 does not have these.
NEW_VERBS = {"is_share_mounted"}

MODULE = ast.parse(inspect.getsource(driver_module))
[CLASS] = [node for node in MODULE.body if isinstance(node, ast.ClassDef)]
METHODS = [node for node in CLASS.body if isinstance(node, ast.FunctionDef)]


def test_the_module_defines_nothing_but_the_driver():
    assert CLASS.name == "DockerDriver"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert not [node for node in MODULE.body if isinstance(node, functions)]
    assigned = {
        ast.unparse(target)
        for node in MODULE.body
        if isinstance(node, ast.Assign)
        for target in node.targets
    }
    assert assigned == {"CONF", "LOG"}


def test_every_method_is_one_of_novas_verbs():
    own = {method.name for method in METHODS} - {"__init__", "_guest"}
    assert own
    assert own <= set(dir(nova_driver.ComputeDriver)) | NEW_VERBS
    assert not {name for name in own if name.startswith("_")}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_is_short(method):
    statements = [node for node in ast.walk(method) if isinstance(node, ast.stmt)]
    # Without the method's own definition
    assert len(statements) - 1 <= MAX_STATEMENTS


@pytest.fixture
def driver():
    with fake_mode.engine():
        started = DockerDriver(fake.FakeVirtAPI())
        started.init_host("host")
        yield started
        started.cleanup_host("host")


@pytest.fixture
def instance():
    return samples.instance()


@pytest.fixture
def logged(instance, caplog):
    """Returns the messages logged about the instance at INFO since the last call."""
    caplog.set_level(logging.INFO, "nova_docker")

    def messages():
        found = [
            record.getMessage()
            for record in caplog.records
            if record.levelno == logging.INFO
            # oslo.log's formatter replaces the object by a text with its UUID.
            and instance.uuid in str(getattr(record, "instance", None))
        ]
        caplog.clear()
        return found

    return messages


@pytest.fixture
def server(driver, instance, logged):
    """The instance, running; what was logged meanwhile does not count."""
    spawn(driver, instance)
    logged()
    return instance


def spawn(driver, instance):
    context = samples.request_context()
    driver.spawn(context, instance, samples.image_meta(), [], None, {}, samples.nics())


def test_a_spawn_is_logged(driver, instance, logged):
    spawn(driver, instance)
    assert logged() == ["Instance spawned successfully."]


def test_a_server_of_a_dead_host_is_booted_anew(driver, instance):
    assert driver.capabilities["supports_evacuate"]
    context, image = samples.request_context(), samples.image_meta()
    # Nova then spawns the server, and destroys nothing before that.
    with pytest.raises(NotImplementedError):
        driver.rebuild(
            *(context, instance, image, [], None, {}, [], None, None),
            evacuate=True,
        )
    assert not driver.instance_on_disk(instance)
    spawn(driver, instance)
    assert driver.instance_exists(instance)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("SOFT", "Instance soft rebooted successfully."),
        ("HARD", "Instance rebooted successfully."),
    ],
)
def test_a_reboot_is_logged(driver, server, logged, kind, message):
    driver.reboot(None, server, samples.nics(), kind)
    assert logged() == [message]


def test_a_power_off_is_logged(driver, server, logged):
    driver.power_off(server, timeout=1)
    assert logged() == ["Instance shutdown successfully after 0 seconds."]


def test_nova_can_delete_servers_after_it_has_stopped_the_driver(driver, server):
    """As it does with those whose deletion began before."""
    driver.cleanup_host("host")
    driver.destroy(None, server, samples.nics())
    assert driver.list_instance_uuids() == []


def test_a_destroy_is_logged(driver, server, logged):
    driver.destroy(None, server, samples.nics())
    assert logged() == ["Instance destroyed successfully."]


def test_a_destroy_that_keeps_the_disk_is_not_logged(driver, server, logged):
    driver.destroy(None, server, samples.nics(), destroy_disks=False)
    assert logged() == []


def test_a_snapshot_is_logged(driver, server, logged, mocker):
    mocker.patch.object(driver._snapshots, "_image_api")
    driver.snapshot(None, server, samples.uuid(), lambda **states: None)
    assert logged() == [
        "Beginning live snapshot process",
        "Snapshot extracted, beginning image upload",
        "Snapshot image upload complete",
    ]


@pytest.mark.parametrize(
    "error",
    [
        errors.ContainerNotFound("No such container", 404),
        errors.EngineError("restarting", 500),
        errors.Unreachable("connection refused"),
        errors.Timeout("no answer"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_nic_is_detached_whatever_the_engine_says(driver, server, mocker, error):
    """Nova would keep an interface whose port Neutron has deleted."""
    for call in ("inspect_container", "list_containers"):
        mocker.patch.object(driver._client, call, side_effect=error)
    detach = mocker.patch.object(driver._nics, "detach")
    vif = samples.vif()
    driver.detach_interface(None, server, vif)
    detach.assert_called_once_with(server, vif)


def test_a_nic_that_gvisor_uses_is_not_detached(driver, server, mocker):
    found = Namespaces(isolation.GVISOR, in_use=True, running=True)
    mocker.patch.object(Guest, "namespaces", return_value=found)
    detach = mocker.patch.object(driver._nics, "detach")
    with pytest.raises(exception.AttachInterfaceNotSupported):
        driver.detach_interface(None, server, samples.vif())
    detach.assert_not_called()


@pytest.mark.parametrize("verb", ["suspend", "resume"])
def test_a_server_keeps_its_state_if_it_cannot_be_suspended_or_resumed(
    driver, server, mocker, verb
):
    """Nova would show it in ERROR, and only a hard reboot would end that."""
    failure = exception.NovaException("no engine")
    mocker.patch.object(driver._checkpoints, verb, side_effect=failure)
    arguments = [samples.nics()] if verb == "resume" else []
    with pytest.raises(exception.InstanceFaultRollback) as raised:
        getattr(driver, verb)(None, server, *arguments)
    assert raised.value.inner_exception is failure


def test_a_hard_reboot_sets_the_limits_of_the_servers_own_level(driver, server, mocker):
    """The default level of the host may have changed since the server was created."""
    found = Namespaces(isolation.GVISOR, in_use=False, running=False)
    mocker.patch.object(Guest, "namespaces", return_value=found)
    limit = mocker.patch.object(Guest, "limit")
    server.flavor.memory_mb = 1
    driver.reboot(None, server, samples.nics(), "HARD")
    [limits] = limit.call_args.args
    assert limits["PidsLimit"] == 256


def test_a_server_that_arrives_has_its_volumes_as_its_flavor_says(driver, monkeypatch):
    found = []

    def connected(instance, block_device_info, mode):
        found.append(mode)
        return contextlib.nullcontext()

    monkeypatch.setattr(driver._volumes, "connected", connected)
    monkeypatch.setattr(driver._cold, "arrive", lambda *args: None)
    monkeypatch.setattr(driver._boot, "check", lambda *args: None)
    specs = {"docker:volume_mode": volume_mode.FILE_SYSTEM}
    instance = samples.instance(flavor=samples.flavor(extra_specs=specs))
    migration = objects.Migration(source_compute="other", dest_compute="this")
    driver.finish_migration(
        *(None, migration, instance, "", samples.nics(), samples.image_meta()),
        *(False, {}),
        power_on=False,
    )
    assert found == [volume_mode.FILE_SYSTEM]
