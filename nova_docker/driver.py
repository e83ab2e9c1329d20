# SPDX-License-Identifier: Apache-2.0
"""Nova's verbs: a virt driver whose servers are Docker containers.

Each method says what happens; how it happens is in a room of its own:
:mod:`guest` (one server's container), :mod:`container` (what it looks like),
:mod:`images`, :mod:`nics`, :mod:`host`, :mod:`events`, :mod:`client`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent import futures
from typing import Any
from typing import NoReturn

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.image import glance
from nova.virt import driver
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine import options
from docker_engine.client import DockerClient
from nova_docker import conf
from nova_docker import config_drive
from nova_docker import container
from nova_docker import diagnostics
from nova_docker import injection
from nova_docker import password
from nova_docker import rescue
from nova_docker import unsupported
from nova_docker.console import SerialConsoles
from nova_docker.errors import translated
from nova_docker.guest import Guest
from nova_docker.host.events import LifecycleEvents
from nova_docker.host.host import Host
from nova_docker.image.cache import ImageCache
from nova_docker.image.locations import ImageLocations
from nova_docker.image.snapshot import Snapshots
from nova_docker.image.store import ImageStore
from nova_docker.migration import resize
from nova_docker.nics import Nics
from nova_docker.nics import nameservers

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

conf.register_opts(CONF)


class DockerDriver(driver.ComputeDriver):
    """Runs servers as containers of the Docker engine of this host."""

    capabilities = {
        **driver.ComputeDriver.capabilities,
        "has_imagecache": True,
        "supports_attach_interface": True,
        "supports_device_tagging": True,
        "supports_image_type_raw": True,
        "supports_tagged_attach_interface": True,
        "supports_trusted_certs": True,
    }

    def __init__(self, virtapi: Any, client: DockerClient | None = None) -> None:
        """:param client: an engine to use instead of ``[docker]host``'s"""
        super().__init__(virtapi)
        self._client = client or options.client(CONF.docker)
        self._host = Host(self._client)
        image_api = glance.API()
        self._images = ImageStore(self._client, image_api, ImageLocations())
        self._image_cache = ImageCache(self._client)
        self._snapshots = Snapshots(self._client, image_api)
        self._nics = Nics(virtapi, first=1 if self._engine_network else 0)
        self._consoles = SerialConsoles(self._client)
        self._events = LifecycleEvents(self._client, self.emit_event)
        # What a boot or a delete does at the same time as its main line.
        self._beside = futures.ThreadPoolExecutor(thread_name_prefix="docker")

    # The host

    def init_host(self, host: str) -> None:
        self._host.connect(CONF.docker.runtime)
        rescue.mend(self._client)
        self._nics.init(self._host.engine_id)
        servers = self.list_instance_uuids()
        self._nics.sweep(servers)
        config_drive.sweep(servers)
        self._snapshots.sweep()
        self._events.start()

    def cleanup_host(self, host: str) -> None:
        self._events.stop()
        self._consoles.stop()
        self._beside.shutdown()

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        return [CONF.host]

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        return self._host.resources()

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        reserved = self._get_reserved_host_disk_gb_from_config()
        provider_tree.update_inventory(nodename, self._host.inventory(ratios, reserved))
        traits = self._host.traits()
        # What an operator has added stays.
        provider_tree.add_traits(nodename, *(t for t, has in traits.items() if has))
        provider_tree.remove_traits(
            nodename, *(t for t, has in traits.items() if not has)
        )

    def get_host_uptime(self) -> str:
        return self._host.uptime()

    def get_host_cpu_stats(self) -> dict[str, int]:
        return self._host.cpu_stats()

    def get_host_ip_addr(self) -> str:
        return CONF.my_ip

    # What is there

    def list_instances(self) -> list[str]:
        found = self._containers().values()
        return [item["Labels"][container.NAME_LABEL] for item in found]

    def list_instance_uuids(self) -> list[str]:
        return list(self._containers())

    def get_num_instances(self) -> int:
        return len(self._containers())

    def instance_exists(self, instance: objects.Instance) -> bool:
        return self._guest(instance).exists()

    def get_info(self, instance: objects.Instance, use_cache: bool = True) -> Any:
        return self._guest(instance).info()

    def get_console_output(self, context: Any, instance: objects.Instance) -> str:
        return self._guest(instance).console_output()

    def get_serial_console(self, context: Any, instance: objects.Instance) -> Any:
        self._guest(instance).info()  # or InstanceNotFound
        return self._consoles.console(instance.uuid)

    def get_diagnostics(self, instance: objects.Instance) -> dict[str, int]:
        return diagnostics.legacy(
            self._guest(instance).stats(),
            instance.get_network_info(),
            self._host.nic_counters(),
        )

    def get_instance_diagnostics(self, instance: objects.Instance) -> Any:
        guest = self._guest(instance)
        return diagnostics.standard(
            guest.stats(),
            instance,
            power_state.STATE_MAP[guest.info().state],
            instance.get_network_info(),
            self._host.nic_counters(),
        )

    def get_vnc_console(self, context: Any, instance: objects.Instance) -> NoReturn:
        raise exception.ConsoleTypeUnavailable(console_type="vnc")

    def get_spice_console(self, context: Any, instance: objects.Instance) -> NoReturn:
        raise exception.ConsoleTypeUnavailable(console_type="spice")

    def get_mks_console(self, context: Any, instance: objects.Instance) -> NoReturn:
        raise exception.ConsoleTypeUnavailable(console_type="mks")

    # A server's life

    def spawn(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,
        network_info: Any = None,
        block_device_info: Any = None,
        power_on: bool = True,
        accel_info: Any = None,
    ) -> None:
        self._refuse(instance, image_meta, block_device_info)
        with self._leave_nothing_behind(instance, network_info):
            with self._nics.wired(instance, network_info):
                plugging = self._beside.submit(self._nics.plug, instance, network_info)
                try:
                    instance.device_metadata = config_drive.device_metadata(
                        context, instance
                    )
                    mounts = config_drive.write(
                        instance, injected_files, admin_password, network_info
                    )
                    self._create(
                        context,
                        instance,
                        image_meta,
                        network_info,
                        mounts,
                        injected_files,
                    )
                finally:
                    plugging.result()
            if power_on:
                self._guest(instance).start()
        if power_on:
            password.inject(self._guest(instance), instance, image_meta, admin_password)

    def rebuild(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        injected_files: Any,
        admin_password: str | None,
        allocations: Any,
        bdms: Any,
        detach_block_devices: Any,
        attach_block_devices: Any,
        network_info: Any = None,
        evacuate: bool = False,
        block_device_info: Any = None,
        preserve_ephemeral: bool = False,
        accel_uuids: Any = None,
        reimage_boot_volume: bool = False,
    ) -> None:
        # Nova's own way, which this asks for, destroys the server before anybody
        # has looked at the image.
        self._refuse(instance, image_meta, block_device_info)
        self._images.ensure(
            context, image_meta, instance.flavor, instance.trusted_certs
        )
        raise NotImplementedError

    def destroy(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        # A container and its disk are one. To keep the disk is what Nova asks for
        # when it reverts a resize on this host, and the server runs on.
        if destroy_disks:
            self.cleanup(context, instance, network_info)

    def cleanup(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        destroy_disks: bool = True,
        migrate_data: Any = None,
        destroy_vifs: bool = True,
        destroy_secrets: bool = True,
    ) -> None:
        removing = self._beside.submit(self._guest(instance).remove)
        try:
            if destroy_vifs:
                self._nics.unplug(instance, network_info)
        finally:
            removing.result()
            config_drive.remove(instance.uuid)

    def reboot(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        reboot_type: str,
        block_device_info: Any = None,
        bad_volumes_callback: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        grace = CONF.shutdown_timeout if reboot_type == "SOFT" else 0
        guest = self._guest(instance)
        guest.stop(grace)
        if reboot_type == "HARD":
            # Brings a server whose resize broke off in line with its flavor.
            guest.limit(self._limits(instance.flavor))
        self.power_on(context, instance, network_info)

    def power_off(
        self, instance: objects.Instance, timeout: int = 0, retry_interval: int = 0
    ) -> None:
        self._guest(instance).stop(timeout)
        self._nics.cut(instance)

    def power_on(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        guest = self._guest(instance)
        self._discard_saved(guest)
        self._nics.plug(instance, network_info)
        guest.start()

    def pause(self, instance: objects.Instance) -> None:
        self._guest(instance).pause()

    def unpause(self, instance: objects.Instance) -> None:
        self._guest(instance).unpause()

    def suspend(self, context: Any, instance: objects.Instance) -> None:
        guest = self._guest(instance)
        self._discard_saved(guest)
        if self._host.saves_memory:
            try:
                guest.save()
            except exception.InstanceSuspendFailure as error:
                LOG.warning("It stays in memory: %s", error, instance=instance)
            else:
                self._nics.cut(instance)
                return
        guest.pause()

    def resume(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        share_info: Any = None,
    ) -> None:
        guest = self._guest(instance)
        if self._host.checkpoints and guest.is_saved():
            self._nics.plug(instance, network_info)
            try:
                guest.restore()
            except exception.InstanceResumeFailure as error:
                # It stays suspended, and may be rebooted if that is wanted.
                raise exception.InstanceFaultRollback(error) from error
            self._discard_saved(guest)
            return
        try:
            guest.unpause()
        except exception.InstanceNotRunning:
            LOG.warning(
                "The host was restarted: a suspended server starts from its disk, "
                "what it had in memory is lost",
                instance=instance,
            )
            self.power_on(context, instance, network_info)

    def quiesce(
        self, context: Any, instance: objects.Instance, image_meta: objects.ImageMeta
    ) -> None:
        # Who does not run does not write, and its files are in the host's cache.
        self._guest(instance).pause()

    def unquiesce(
        self, context: Any, instance: objects.Instance, image_meta: objects.ImageMeta
    ) -> None:
        self._guest(instance).unpause()

    def trigger_crash_dump(self, instance: objects.Instance) -> None:
        self._guest(instance).signal(CONF.docker.crash_dump_signal)

    def set_admin_password(self, instance: objects.Instance, new_pass: str) -> None:
        password.change(self._guest(instance), instance, new_pass)

    def resume_state_on_host_boot(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        share_info: Any = None,
        block_device_info: Any = None,
    ) -> None:
        # Nothing happens to one that runs.
        self.power_on(context, instance, network_info)

    def rescue(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        image_meta: objects.ImageMeta,
        rescue_password: str | None,
        block_device_info: Any,
        share_info: Any,
    ) -> None:
        rescue.check(instance, image_meta)
        self._images.check(image_meta, instance.flavor)
        # The server has its name while this takes its time.
        self._images.ensure(
            context, image_meta, instance.flavor, instance.trusted_certs
        )
        with rescue.set_aside(self._client, instance) as broken:
            mounts = rescue.mounts(instance, broken)
            self._create(context, instance, image_meta, network_info, mounts)
            self.power_on(context, instance, network_info)
        password.inject(self._guest(instance), instance, image_meta, rescue_password)

    def unrescue(self, context: Any, instance: objects.Instance) -> None:
        rescue.bring_back(self._client, instance)
        self.power_on(context, instance, instance.get_network_info())

    # Its size

    def migrate_disk_and_power_off(
        self,
        context: Any,
        instance: objects.Instance,
        dest: str,
        flavor: objects.Flavor,
        network_info: Any,
        block_device_info: Any = None,
        timeout: int = 0,
        retry_interval: int = 0,
    ) -> str:
        # Neither. Whatever may go wrong does here, where Nova can still go back.
        with resize.rolled_back():
            resize.refuse(instance, flavor, dest, disk_quota=self._host.disk_quota)
            self._guest(instance).limit(self._limits(flavor))
        return ""

    def finish_migration(
        self,
        context: Any,
        migration: objects.Migration,
        instance: objects.Instance,
        disk_info: str,
        network_info: Any,
        image_meta: objects.ImageMeta,
        resize_instance: bool,
        allocations: Any,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        if power_on:
            self.power_on(context, instance, network_info)

    def confirm_migration(
        self,
        context: Any,
        migration: objects.Migration,
        instance: objects.Instance,
        network_info: Any,
    ) -> None:
        """There is no old server beside the new one."""

    def finish_revert_migration(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        migration: objects.Migration,
        block_device_info: Any = None,
        power_on: bool = True,
        share_info: Any = None,
    ) -> None:
        self._guest(instance).limit(self._limits(instance.flavor))
        if power_on:
            self.power_on(context, instance, network_info)

    def check_instance_shared_storage_local(
        self, context: Any, instance: objects.Instance
    ) -> str:
        return CONF.host

    def check_instance_shared_storage_remote(self, context: Any, data: str) -> bool:
        # A container is on one engine, and that on one host.
        return data == CONF.host

    # Its images, and the host's

    def snapshot(
        self,
        context: Any,
        instance: objects.Instance,
        image_id: str,
        update_task_state: Callable[..., None],
    ) -> None:
        self._snapshots.take(context, instance, image_id, update_task_state)

    def cache_image(self, context: Any, image_id: str) -> bool:
        self._image_cache.touch(image_id)
        return self._images.cache(context, image_id)

    def manage_image_cache(
        self, context: Any, all_instances: list[objects.Instance]
    ) -> None:
        self._image_cache.prune(all_instances)

    # Its network

    def plug_vifs(self, instance: objects.Instance, network_info: Any) -> None:
        self._nics.plug(instance, network_info)

    def unplug_vifs(self, instance: objects.Instance, network_info: Any) -> None:
        self._nics.unplug(instance, network_info)

    def attach_interface(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        vif: Any,
    ) -> None:
        off = self._guest(instance).info().state == power_state.SHUTDOWN
        with self._nics.attached(instance, vif, connected=not off):
            instance.device_metadata = config_drive.device_metadata(context, instance)
            instance.save()

    def detach_interface(
        self, context: Any, instance: objects.Instance, vif: Any
    ) -> None:
        self._nics.detach(instance, vif)

    # What the verbs share

    @property
    def _engine_network(self) -> bool:
        return CONF.docker.network_mode == "bridge"

    def _guest(self, instance: objects.Instance) -> Guest:
        return Guest(self._client, instance)

    def _discard_saved(self, guest: Guest) -> None:
        # It would not go with a disk that has changed.
        if self._host.checkpoints:
            guest.discard_saved()

    def _limits(self, flavor: objects.Flavor) -> dict[str, Any]:
        return container.limits(flavor, pids=CONF.docker.pids_limit)

    def _containers(self) -> dict[str, dict[str, Any]]:
        with translated():
            listed = self._client.list_containers(filters=container.SERVERS)
        return container.of_servers(listed)

    def _refuse(
        self,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        block_device_info: Any,
    ) -> None:
        """Refuse what no container can be or run, before anything is done for it."""
        unsupported.refuse(instance.flavor, image_meta)
        unsupported.refuse_devices(block_device_info)
        container.command(image_meta)
        self._images.check(image_meta, instance.flavor)

    def _create(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
        mounts: Sequence[dict[str, Any]] = (),
        injected_files: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        image = self._images.ensure(
            context, image_meta, instance.flavor, instance.trusted_certs
        )
        addresses = network_info.fixed_ips() if network_info else []
        self._guest(instance).create(
            container.config(
                instance,
                image_meta,
                image,
                nameservers=nameservers(network_info),
                address=addresses[0]["address"] if addresses else None,
                limits=self._limits(instance.flavor),
                disk_gb=instance.flavor.root_gb if self._host.disk_quota else 0,
                runtime=CONF.docker.runtime,
                network_mode=CONF.docker.network_mode,
                log_size_mb=CONF.docker.console_log_size_mb,
                mounts=mounts,
            )
        )
        injection.inject_files(self._client, instance, injected_files)
        if CONF.docker.inject_key and instance.key_data:
            injection.inject_key(
                self._client,
                instance,
                instance.key_data,
                container.admin_user(image_meta),
            )

    @contextlib.contextmanager
    def _leave_nothing_behind(
        self, instance: objects.Instance, network_info: Any
    ) -> Iterator[None]:
        """Remove what a boot made when it fails; a server that was there stays."""
        try:
            yield
        except exception.InstanceExists:
            raise
        except Exception:
            with excutils.save_and_reraise_exception():
                try:
                    self.cleanup(None, instance, network_info)
                except Exception:
                    LOG.exception("Cleaning up a failed boot", instance=instance)
