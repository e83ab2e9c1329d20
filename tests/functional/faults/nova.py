# SPDX-License-Identifier: Apache-2.0
"""What nova-compute's manager does with the driver, verb by verb.

The calls and their order are those of ``nova.compute.manager`` of Nova 34, with what it
does when the driver raises an exception. A verb that fails raises what the driver has
raised; :attr:`Server.state` is the state that Nova then shows.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from unittest import mock

from nova import exception
from nova import objects
from nova.compute import power_state
from nova.compute import task_states
from nova.compute import vm_states
from nova.network import model
from nova.virt import event as virtevent
from nova.virt import fake

from docker_engine.client import DockerClient
from nova_docker.container import naming
from nova_docker.driver import CONF
from nova_docker.driver import DockerDriver
from nova_docker.guest import Guest
from nova_docker.host.events import LifecycleEvents
from tests import samples
from tests.functional import host

LARGE = samples.flavor(name="docker.small", memory_mb=128, vcpus=2)


@dataclasses.dataclass
class Server:
    """A server in Nova's database.

    :ivar spare: a port to attach
    """

    instance: objects.Instance
    network_info: model.NetworkInfo
    image_meta: objects.ImageMeta
    files: list[tuple[str, bytes]]
    spare: model.VIF

    @property
    def state(self) -> str:
        """What Nova shows."""
        return self.instance.vm_state

    @state.setter
    def state(self, state: str) -> None:
        self.instance.vm_state = state


class Manager:
    """The part of nova-compute that calls the driver.

    :ivar driver: a driver that follows no events
    """

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self.driver = DockerDriver(fake.FakeVirtAPI(), client)
        with mock.patch.object(LifecycleEvents, "start"):
            self.driver.init_host("test-host")
        self.context = samples.request_context()
        self._started: DockerDriver | None = None
        self._heard: list[tuple[str, int]] = []

    def close(self) -> None:
        self.driver.cleanup_host("test-host")

    def start_service(self, server: Server) -> None:
        """Start a nova-compute that follows the engine's events."""
        self._heard.clear()
        self._started = DockerDriver(fake.FakeVirtAPI(), self._client)
        self._started.register_event_listener(self._hear)
        try:
            self._started.init_host("test-host")
        except Exception:
            self._started.cleanup_host("test-host")
            raise

    def _hear(self, event: virtevent.LifecycleEvent) -> None:
        self._heard.append((event.get_instance_uuid(), event.get_transition()))

    def hear_exit(self, server: Server) -> None:
        """Wait until the new nova-compute reports the exit of a server; end it.

        :raises AssertionError: if it does not
        """
        started = self._started
        assert started
        try:
            # It may be about to connect again after a fault.
            assert host.eventually(lambda: started._events._stream)
            self._client.kill_container(naming.name_of(server.instance.uuid))
            exited = (server.instance.uuid, virtevent.EVENT_LIFECYCLE_STOPPED)
            assert host.eventually(lambda: exited in self._heard)
        finally:
            started.cleanup_host("test-host")
        server.state = vm_states.STOPPED

    def run_periodic_tasks(self, used_image: str) -> None:
        """Run the periodic tasks that call the driver.

        :param used_image: ID of an image that servers on this host use
        """
        self.driver.get_available_resource("test-host")
        used = objects.Instance(image_ref=used_image)
        self.driver.manage_image_cache(self.context, [used])

    def power_state(self, server: Server) -> int:
        try:
            return self.driver.get_info(server.instance, use_cache=False).state
        except exception.InstanceNotFound:
            return power_state.NOSTATE

    def boot(self, server: Server) -> None:
        try:
            self._spawn(server)
        except Exception:
            server.state = vm_states.ERROR
            # A failed clean-up makes Nova give up; otherwise it tries another host.
            with contextlib.suppress(exception.NovaException):
                self.delete(server)
                server.state = vm_states.DELETED
            raise
        server.state = vm_states.ACTIVE

    def delete(self, server: Server) -> None:
        server.instance.task_state = task_states.DELETING
        with _error(server):
            self.driver.destroy(
                self.context, server.instance, server.network_info, {}, True
            )
        server.state = vm_states.DELETED

    def reap(self, server: Server) -> None:
        """Destroy a deleted server that the driver lists, as a periodic task does."""
        if server.instance.uuid in self.driver.list_instance_uuids():
            self.delete(server)

    def soft_reboot(self, server: Server) -> None:
        self._reboot(server, "SOFT")

    def hard_reboot(self, server: Server) -> None:
        self._reboot(server, "HARD")

    def stop(self, server: Server) -> None:
        self.driver.power_off(server.instance, CONF.shutdown_timeout, 10)
        self.power_state(server)
        server.state = vm_states.STOPPED

    def start(self, server: Server) -> None:
        self.driver.power_on(self.context, server.instance, server.network_info, {})
        self.power_state(server)
        server.state = vm_states.ACTIVE

    def pause(self, server: Server) -> None:
        self.driver.pause(server.instance)
        self.power_state(server)
        server.state = vm_states.PAUSED

    def unpause(self, server: Server) -> None:
        self.driver.unpause(server.instance)
        self.power_state(server)
        server.state = vm_states.ACTIVE

    def suspend(self, server: Server) -> None:
        with _error(server):
            self.driver.suspend(self.context, server.instance)
        self.power_state(server)
        server.state = vm_states.SUSPENDED

    def resume(self, server: Server) -> None:
        with _error(server):
            self.driver.resume(self.context, server.instance, server.network_info, {})
        self.power_state(server)
        server.state = vm_states.ACTIVE

    def remember(self, server: Server) -> None:
        """Write something into a server's memory."""
        self._run(server, f"echo {server.instance.uuid} > /dev/shm/kept")

    def recall(self, server: Server) -> None:
        """Check that :meth:`remember` has not been in vain.

        :raises AssertionError: if the memory is lost
        """
        kept = self._run(server, "cat /dev/shm/kept")
        assert server.instance.uuid in kept, "the server's memory"

    def _run(self, server: Server, script: str) -> str:
        return Guest(self._client, server.instance).run(["sh", "-c", script], b"")[1]

    def snapshot(self, server: Server) -> None:
        self.power_state(server)
        self.driver.snapshot(
            self.context, server.instance, samples.uuid(), lambda **states: None
        )

    def rescue(self, server: Server) -> None:
        with _error(server):
            self.driver.power_off(server.instance, CONF.shutdown_timeout, 10)
            self.driver.rescue(
                self.context,
                server.instance,
                server.network_info,
                server.image_meta,
                "password",
                {},
                objects.ShareMappingList(),
            )
        self.power_state(server)
        server.state = vm_states.RESCUED

    def unrescue(self, server: Server) -> None:
        with _error(server):
            self.driver.unrescue(self.context, server.instance)
        self.power_state(server)
        server.state = vm_states.ACTIVE

    def rebuild(self, server: Server) -> None:
        with _error(server):
            self.power_state(server)
            with contextlib.suppress(NotImplementedError):
                self.driver.rebuild(
                    self.context,
                    server.instance,
                    server.image_meta,
                    server.files,
                    "password",
                    {},
                    [],
                    None,
                    None,
                    network_info=server.network_info,
                )
            self.driver.power_off(server.instance, CONF.shutdown_timeout, 10)
            self.driver.destroy(self.context, server.instance, server.network_info, {})
            self._spawn(server)
            self.power_state(server)
        server.state = vm_states.ACTIVE

    def resize(self, server: Server) -> None:
        old, flavor = server.instance.flavor, LARGE
        with _error(server):
            self.driver.migrate_disk_and_power_off(
                self.context,
                server.instance,
                CONF.my_ip,
                flavor,
                server.network_info,
                {},
                CONF.shutdown_timeout,
                10,
            )
            server.instance.flavor = flavor
            try:
                self.driver.finish_migration(
                    self.context,
                    samples.migration(),
                    server.instance,
                    "",
                    server.network_info,
                    server.image_meta,
                    False,
                    {},
                    {},
                    True,
                )
            except Exception:
                server.instance.flavor = old
                raise
            self.power_state(server)
        server.state = vm_states.ACTIVE

    def attach(self, server: Server) -> None:
        self.driver.attach_interface(
            self.context, server.instance, server.image_meta, server.spare
        )
        server.network_info.append(server.spare)

    def detach(self, server: Server) -> None:
        self.driver.detach_interface(self.context, server.instance, server.spare)
        server.network_info.remove(server.spare)

    def _spawn(self, server: Server) -> None:
        self.driver.spawn(
            self.context,
            server.instance,
            server.image_meta,
            server.files,
            "password",
            {},
            server.network_info,
            {},
        )
        self.power_state(server)

    def _reboot(self, server: Server, kind: str) -> None:
        self.power_state(server)
        try:
            self.driver.reboot(
                self.context, server.instance, server.network_info, kind, {}
            )
        except Exception:
            server.state = vm_states.ERROR
            if self.power_state(server) == power_state.RUNNING:
                server.state = vm_states.ACTIVE
            raise
        self.power_state(server)
        server.state = vm_states.ACTIVE


@contextlib.contextmanager
def _error(server: Server) -> Iterator[None]:
    """Set a server's state to ERROR, unless the driver says that nothing changed."""
    try:
        yield
    except exception.InstanceFaultRollback:
        raise
    except Exception:
        server.state = vm_states.ERROR
        raise
