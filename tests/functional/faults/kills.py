# SPDX-License-Identifier: Apache-2.0
"""Processes that call one verb of the driver, and are killed at one step of it.

A step is a call of the engine, or of what plugs and unplugs NICs, makes ephemeral disks
or writes a config drive. A process is killed before the step, during it, or when it is
done, as ``kill -9`` of nova-compute does. Another process then does what nova-compute
does when it starts again.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import re
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import os_vif
import pytest
from nova import exception
from nova.compute import power_state
from nova.compute import vm_states
from nova.virt import fake
from oslo_concurrency import processutils
from oslo_utils import units

from docker_engine.transport.http import Transport
from nova_docker import config_drive
from nova_docker.container import naming
from nova_docker.driver import DockerDriver
from nova_docker.privsep import devices
from nova_docker.privsep import loops
from nova_docker.privsep import network
from nova_docker.privsep import userns
from tests import samples
from tests.functional import host

WHEN = ("before", "during", "after")
TIMEOUT = 60  # seconds for one process

# Nothing of this process's threads and connections must reach a child.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__])

_VERSION = re.compile(r"/v1\.\d+/")
_ID = re.compile(r"[0-9a-f]{12,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclasses.dataclass(frozen=True)
class Case:
    """A server, and the host that it is on.

    :ivar archives: images in Glance, by ID; the first is the server's
    :ivar engine: address of the engine
    :ivar switch: address of the switch's database
    :ivar state: directory of nova-compute's files
    """

    engine: str
    switch: str
    state: str
    archives: dict[str, bytes]
    vif: dict[str, Any]
    uuid: str = dataclasses.field(default_factory=samples.uuid)


@dataclasses.dataclass(frozen=True)
class Kill:
    """When a process is killed.

    :ivar step: number of the step, from 1
    :ivar when: one of ``WHEN``
    """

    step: int
    when: str


class Compute:
    """A nova-compute that has started, as far as the driver can tell."""

    def __init__(self, case: Case, vm_state: str) -> None:
        self.case = case
        self.glance = host.Glance()
        self.glance.archives.update(case.archives)
        monkeypatch = pytest.MonkeyPatch()
        host.without_openstack(monkeypatch, self.glance)
        host.configure(
            types.SimpleNamespace(host=case.engine),  # type: ignore
            types.SimpleNamespace(connection=case.switch),  # type: ignore
            case.state,  # type: ignore
        )
        self.context = samples.request_context()
        self.network_info = samples.nics(samples.model.VIF.hydrate(case.vif))
        self.instance = samples.instance(
            uuid=case.uuid,
            host="test-host",
            config_drive="True",
            key_data="ssh-ed25519 AAAA test",
            vm_state=vm_state,
            task_state=None,
        )
        monkeypatch.setattr(
            type(self.instance), "get_network_info", lambda _: self.network_info
        )
        monkeypatch.setattr(
            "nova.objects.Instance.get_by_uuid", lambda *args, **more: self.instance
        )
        monkeypatch.setattr(config_drive, "_contents", lambda *args: _DRIVE)
        self.images = [samples.image_meta(id=image) for image in case.archives]
        self.driver = DockerDriver(fake.FakeVirtAPI())
        self.driver.init_host("test-host")

    # Verbs, as Nova's manager calls them

    def boot(self, image: int = 0) -> None:
        self.driver.spawn(
            self.context,
            self.instance,
            self.images[image],
            [("/injected", b"content")],
            None,
            {},
            self.network_info,
            _DISKS,
        )

    def delete(self) -> None:
        self.driver.destroy(self.context, self.instance, self.network_info)

    def snapshot(self) -> None:
        self.driver.snapshot(
            self.context, self.instance, samples.uuid(), lambda **states: None
        )

    def rescue(self) -> None:
        self.driver.power_off(self.instance, 0)
        self.driver.rescue(
            self.context,
            self.instance,
            self.network_info,
            self.images[1],
            None,
            {},
            None,
        )

    def unrescue(self) -> None:
        self.driver.unrescue(self.context, self.instance)

    def rebuild(self) -> None:
        with pytest.raises(NotImplementedError):
            self.driver.rebuild(
                self.context,
                self.instance,
                self.images[1],
                [],
                None,
                {},
                None,
                None,
                None,
                self.network_info,
            )
        self.driver.destroy(self.context, self.instance, self.network_info)
        self.boot(1)

    def resize(self) -> None:
        self.driver.migrate_disk_and_power_off(
            self.context,
            self.instance,
            host.CONF.my_ip,
            samples.flavor(memory_mb=128, vcpus=2),
            self.network_info,
        )
        self.driver.finish_migration(
            *(self.context, samples.migration(), self.instance, ""),
            *(self.network_info, None, True, {}),
        )

    def reboot(self) -> None:
        self.driver.reboot(self.context, self.instance, self.network_info, "HARD")

    def stop(self) -> None:
        self.driver.power_off(self.instance, 0)

    def start(self) -> None:
        self.driver.power_on(self.context, self.instance, self.network_info)

    def prepare_again(self, verb: str) -> None:
        """Bring a recovered server into the state in which it was before a verb."""
        if verb == "unrescue":
            self.rescue()
        elif verb == "start":
            self.stop()

    # What nova-compute does for a server when it starts: _init_instance

    def recover(self, verb: str) -> None:
        if verb in ("boot", "rebuild"):
            return  # The server is in ERROR.
        if verb in ("delete", "reboot", "stop", "start"):
            getattr(self, verb)()
            return
        self.driver.plug_vifs(self.instance, self.network_info)
        if verb == "resize":
            self.driver.finish_revert_migration(
                self.context, self.instance, self.network_info, None
            )
        if self.power_state() != power_state.RUNNING:
            try:
                self.driver.resume_state_on_host_boot(
                    self.context, self.instance, self.network_info
                )
            except exception.NovaException:
                # The server is in ERROR, and its user sees that.
                self.instance.vm_state = vm_states.ERROR
                self.reboot()

    def power_state(self) -> int:
        try:
            return self.driver.get_info(self.instance).state
        except exception.InstanceNotFound:
            return power_state.NOSTATE


def nothing(compute: Compute) -> None:
    """Do nothing before a verb."""


def booted(compute: Compute) -> None:
    compute.boot()


def rescued(compute: Compute) -> None:
    compute.boot()
    compute.rescue()


def stopped(compute: Compute) -> None:
    compute.boot()
    compute.stop()


#: Nova's record of a server while a verb is under way
VM_STATES = {
    "boot": vm_states.BUILDING,
    "unrescue": vm_states.RESCUED,
    "start": vm_states.STOPPED,
}

#: By verb: the function that is called before it
PREPARED = {
    "boot": "nothing",
    "delete": "booted",
    "snapshot": "booted",
    "rescue": "booted",
    "unrescue": "rescued",
    "rebuild": "booted",
    "resize": "booted",
    "reboot": "booted",
    "stop": "booted",
    "start": "stopped",
}
# The verbs that keep the server's files, whatever happens.
_KEEPING = ("snapshot", "rescue", "unrescue", "resize", "reboot", "stop", "start")


def recovered(compute: Compute, verb: str, again: bool) -> None:
    """Do what Nova does when nova-compute starts, and then what users do.

    :param verb: the verb that was interrupted
    :param again: whether they try it again before they delete the server
    """
    compute.recover(verb)
    if verb == "delete":
        assert compute.case.uuid not in compute.driver.list_instance_uuids()
        return
    if verb in _KEEPING:
        off = verb == "stop"
        assert compute.power_state() == (
            power_state.SHUTDOWN if off else power_state.RUNNING
        )
        client = compute.driver._client
        found = client.inspect_container(naming.name_of(compute.case.uuid))
        assert found["HostConfig"]["Memory"] == 64 * units.Mi
        disks = devices.recorded(naming.name_of(compute.case.uuid))
        assert list(disks) == ["vdb"]
        if not off:
            # Its own files, and no rescue system of which Nova knows nothing
            aside = naming.aside_name_of(compute.case.uuid)
            names = [
                name for item in client.list_containers() for name in item["Names"]
            ]
            in_rescue = f"/{aside}" in names
            assert verb == "unrescue" or not in_rescue
            file = "/mnt/rescue/marker" if in_rescue else "/marker"
            run = compute.driver._guest(compute.instance).run
            shown = run(["cat", file], b"")
            assert shown == (0, "own"), shown
    if again:
        if verb == "boot":
            # A user deletes a server that is in ERROR, and creates another one.
            compute.delete()
        elif verb != "rebuild":
            compute.prepare_again(verb)
        getattr(compute, verb)()
    compute.delete()
    assert compute.case.uuid not in compute.driver.list_instance_uuids()


# Without a volume, which Nova would pass each time
_DISKS = {"ephemerals": [{"device_name": "/dev/vdb", "size": 1}]}
_DRIVE = {
    "openstack/latest/meta_data.json": b'{"uuid": "x", "hostname": "web-1"}',
    "openstack/latest/user_data": b"#!/bin/sh",
}


def run(
    case: Case,
    act: Callable[[Compute], Any],
    *,
    verb: str | None = None,
    kill: Kill | None = None,
    vm_state: str = vm_states.ACTIVE,
) -> list[str]:
    """Run a nova-compute in a process of its own, and return the steps of a verb.

    :param act: what happens before the verb: a module's function
    :param verb: the verb whose steps count
    :param kill: when to kill the process
    :param vm_state: Nova's record of the server
    :raises AssertionError: with the traceback, if it fails
    """
    ours, theirs = _processes.Pipe()
    process = _processes.Process(
        target=_main, args=(theirs, case, act, verb, kill, vm_state)
    )
    process.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(TIMEOUT) else "the process hangs"
    except EOFError:
        answer = ""
    if answer == "the process hangs":
        process.kill()
    process.join(TIMEOUT)
    if isinstance(answer, list) and not kill:
        return answer
    assert kill and process.exitcode == -signal.SIGKILL and not answer, (
        f"exit code {process.exitcode}: {answer}"
    )
    return []


def _main(
    connection: Connection,
    case: Case,
    act: Callable[[Compute], Any],
    verb: str | None,
    kill: Kill | None,
    vm_state: str,
) -> None:
    try:
        steps = _Steps(kill)
        compute = Compute(case, vm_state)
        act(compute)
        if verb:
            steps.watch()
            getattr(compute, verb)()
            steps.watching = False
        connection.send(steps.names)
    except BaseException:
        connection.send(traceback.format_exc())
    sys.stdout.flush()
    # Threads of the driver may wait for ever.
    os._exit(0)


class _Steps:
    """Counts the steps of a verb, and kills the process at one of them."""

    def __init__(self, kill: Kill | None) -> None:
        self.names: list[str] = []
        self.watching = False
        self._kill = kill
        self._lock = threading.Lock()

    def watch(self) -> None:
        request = Transport.request

        @functools.wraps(request)
        def watched(transport: Any, method: str, path: str, *args: Any, **more: Any):
            name = f"{method} {_ID.sub('X', _VERSION.sub('/', path))}"
            call = functools.partial(request, transport, method, path, *args, **more)
            return self._step(name, call)

        Transport.request = watched  # type: ignore
        for module, names in (
            (network, ("plug", "unplug", "cut", "names", "describe", "shape")),
            (userns, ("pin", "release")),
            (os_vif, ("plug", "unplug")),
            (config_drive, ("write", "remove")),
            (devices, ("record", "forget")),
            (loops, ("attach", "detach")),
            (processutils, ("execute",)),
        ):
            for name in names:
                self._replace(module, name)
        self.watching = True

    def _replace(self, module: Any, name: str) -> None:
        function = getattr(module, name)

        def watched(*args: Any, **more: Any) -> Any:
            call = functools.partial(function, *args, **more)
            return self._step(f"{module.__name__}.{name}", call)

        setattr(module, name, watched)

    def _step(self, name: str, call: Callable[[], Any]) -> Any:
        # The thread that follows the engine's events does not belong to the verb.
        if not self.watching or threading.current_thread().name == "docker-events":
            return call()
        with self._lock:
            self.names.append(name)
            number = len(self.names)
        when = self._kill.when if self._kill and self._kill.step == number else ""
        if when == "before":
            _die()
        if when == "during":
            threading.Timer(0.002 * (1 + number % 5), _die).start()
        try:
            return call()
        finally:
            if when:
                _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()
