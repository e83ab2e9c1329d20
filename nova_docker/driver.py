# SPDX-License-Identifier: Apache-2.0
"""The virt driver: Nova's verbs, and nothing else.

Each method shows which steps a verb takes. The steps are in the imported modules.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any
from typing import NoReturn

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.image import glance
from nova.virt import driver
from oslo_log import log as logging

from docker_engine import options
from docker_engine.client import DockerClient
from nova_docker import call_log
from nova_docker import conf
from nova_docker import config_drive
from nova_docker import diagnostics
from nova_docker import password
from nova_docker import rescue
from nova_docker import shares
from nova_docker.boot import Boot
from nova_docker.boot import level_of
from nova_docker.boot import volume_mode_of
from nova_docker.checkpoint import Checkpoints
from nova_docker.console import SerialConsoles
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import volume_mode
from nova_docker.errors import rolled_back
from nova_docker.guest import Guest
from nova_docker.guest import list_servers
from nova_docker.host.events import LifecycleEvents
from nova_docker.host.host import Host
from nova_docker.image.cache import ImageCache
from nova_docker.image.locations import ImageLocations
from nova_docker.image.snapshot import Snapshots
from nova_docker.image.store import ImageStore
from nova_docker.migration import resize
from nova_docker.migration.cold import ColdMigration
from nova_docker.migration.receiver import Receiver
from nova_docker.nics import Nics
from nova_docker.power import Power
from nova_docker.reboots import Reboots
from nova_docker.volume import connections
from nova_docker.volume import disks
from nova_docker.volume import ephemerals
from nova_docker.volume.volumes import Volumes

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

conf.register_opts(CONF)


class DockerDriver(driver.ComputeDriver):
    """Runs servers as containers of this host's Docker engine."""

    capabilities = {
        **driver.ComputeDriver.capabilities,
        "has_imagecache": True,
        "supports_attach_interface": True,
        "supports_device_tagging": True,
        "supports_evacuate": True,
        "supports_extend_volume": True,
        "supports_image_type_raw": True,
        "supports_multiattach": True,
        # Nova's API attaches shares only to hosts with the traits of these two, which
        # are named after what libvirt needs for it.
        "supports_mem_backing_file": True,
        "supports_pcpus": True,
        "supports_tagged_attach_interface": True,
        "supports_tagged_attach_volume": True,
        "supports_trusted_certs": True,
        "supports_virtio_fs": True,
    }

    def __init__(self, virtapi: Any, client: DockerClient | None = None) -> None:
        """
        :param client: the engine to use; by default, the one configured in ``[docker]``
        """
        super().__init__(virtapi)
        self._client = client or options.client(CONF.docker)
        self._host = Host(self._client)
        self._images = ImageStore(
            self._client, glance.API(), self._host.space, ImageLocations()
        )
        self._image_cache = ImageCache(self._client)
        self._nics = Nics(virtapi)
        self._power = Power(self._client, self._nics, self._host.limits)
        self._snapshots = Snapshots(
            self._client, glance.API(), self._power, self._host.space
        )
        self._boot = Boot(self._client, self._host, self._images, self._nics)
        self._receiver = Receiver(self._host)
        self._cold = ColdMigration(self._client, self._host, self._boot, self._receiver)
        self._volumes = Volumes(
            self._client, self._power, self._host.why_no_hot_devices
        )
        self._checkpoints = Checkpoints(
            self._client, self._host, self._nics, self._power
        )
        self._consoles = SerialConsoles(self._client)
        self._reboots = Reboots(
            self._client, self._power, lambda uuid: self._events.report_stop(uuid)
        )
        self._events = LifecycleEvents(
            self._client, self.emit_event, self._reboots.begin
        )

    # The host

    def init_host(self, host: str) -> None:
        call_log.install()
        self._host.connect(CONF.docker.runtime)
        rescue.mend(self._client)
        self._nics.init(self._host.engine_id)
        servers = self.list_instance_uuids()
        self._nics.sweep(servers)
        config_drive.sweep(servers)
        ephemerals.sweep(servers)
        shares.sweep(servers)
        self._snapshots.recover()
        self._host.lxcfs.renew()
        self._events.start()
        self._receiver.start()

    def cleanup_host(self, host: str) -> None:
        self._receiver.stop()
        self._reboots.stop()
        self._events.stop()
        self._consoles.stop()

    def get_available_nodes(self, refresh: bool = False) -> list[str]:
        return [CONF.host]

    def get_available_resource(self, nodename: str) -> dict[str, Any]:
        # Nova calls this once a minute.
        self._power.release()
        self._reboots.recover()
        rescue.sweep(self._client)
        self._host.lxcfs.renew()
        self._boot.release(self.list_instance_uuids)
        return self._host.resources()

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        reserved = self._get_reserved_host_disk_gb_from_config()
        provider_tree.update_inventory(nodename, self._host.inventory(ratios, reserved))
        traits = self._host.traits()
        # Only the driver's own traits change: operators may have added others.
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

    # Servers and their state

    def list_instances(self) -> list[str]:
        found = list_servers(self._client).values()
        return [item["Labels"][naming.NAME_LABEL] for item in found]

    def list_instance_uuids(self) -> list[str]:
        return list(list_servers(self._client))

    def get_num_instances(self) -> int:
        return len(list_servers(self._client))

    def instance_exists(self, instance: objects.Instance) -> bool:
        return self._guest(instance).exists()

    def get_info(self, instance: objects.Instance, use_cache: bool = True) -> Any:
        info = self._guest(instance).info()
        if info.state == power_state.SHUTDOWN and self._reboots.hides(instance):
            info.state = power_state.RUNNING
        return info

    def get_console_output(self, context: Any, instance: objects.Instance) -> str:
        return self._guest(instance).console_output()

    def get_serial_console(self, context: Any, instance: objects.Instance) -> Any:
        self._guest(instance).info()  # raises InstanceNotFound if there is none
        return self._consoles.console(instance.uuid)

    def get_diagnostics(self, instance: objects.Instance) -> dict[str, Any]:
        guest = self._guest(instance)
        return diagnostics.legacy(
            guest.stats(),
            guest.namespaces().level,
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

    # Life of a server

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
        self._boot.check(instance, image_meta, block_device_info)
        mode = volume_mode_of(instance, image_meta)
        with self._volumes.connected(instance, block_device_info, mode):
            self._boot.run(
                context,
                instance,
                image_meta,
                network_info,
                injected_files,
                admin_password,
                power_on,
            )
        LOG.info("Instance spawned successfully.", instance=instance)
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
        # Raising NotImplementedError makes Nova destroy the server and spawn it again,
        # without looking at the image first.
        self._boot.check(instance, image_meta, block_device_info)
        self._boot.fetch(context, instance, image_meta, level_of(instance))
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
        # A container cannot be removed without its disk. Nova asks to keep the disk
        # when it reverts a resize on this host, where the server keeps running.
        if destroy_disks:
            self.cleanup(context, instance, network_info, block_device_info)
            LOG.info("Instance destroyed successfully.", instance=instance)
        else:
            self._reboots.settle(instance)
            self._volumes.withdraw(instance, block_device_info, CONF.shutdown_timeout)

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
        self._reboots.settle(instance)
        self._boot.undo(instance, network_info, unplug=destroy_vifs)
        self._volumes.release(instance, block_device_info)
        shares.release(instance.uuid)

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
        soft = reboot_type == "SOFT"
        guest = self._guest(instance)
        with self._power.cut_on_failure(instance):
            if not soft:
                rescue.roll_back(self._client, instance)
            guest.stop(CONF.shutdown_timeout if soft else 0)
            if not soft:
                # An interrupted resize may have left other limits.
                self._power.limit(instance, network_info, instance.flavor, 0)
            self.power_on(
                context,
                instance,
                network_info,
                block_device_info,
                share_info=share_info,
            )
        LOG.info(
            "Instance %s successfully.",
            "soft rebooted" if soft else "rebooted",
            instance=instance,
        )

    def power_off(
        self, instance: objects.Instance, timeout: int = 0, retry_interval: int = 0
    ) -> None:
        self._reboots.settle(instance)
        began = time.monotonic()
        self._power.stop(instance, timeout)
        seconds = time.monotonic() - began
        LOG.info(
            "Instance shutdown successfully after %d seconds.",
            seconds,
            instance=instance,
        )

    def power_on(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        accel_info: Any = None,
        share_info: Any = None,
    ) -> None:
        with self._reboots.held_off(instance):
            self._checkpoints.discard(instance)
            self._volumes.restore(instance, block_device_info)
            with shares.bound(context, instance, share_info, self._power.is_running):
                self._power.start(instance, network_info)

    def pause(self, instance: objects.Instance) -> None:
        self._power.freeze(instance)

    def unpause(self, instance: objects.Instance) -> None:
        self._power.thaw(instance)

    def suspend(self, context: Any, instance: objects.Instance) -> None:
        self._reboots.settle(instance)
        with rolled_back():
            self._checkpoints.suspend(
                instance, to_disk=not self._volumes.has_any(instance)
            )

    def resume(
        self,
        context: Any,
        instance: objects.Instance,
        network_info: Any,
        block_device_info: Any = None,
        share_info: Any = None,
    ) -> None:
        with rolled_back():
            if not self._checkpoints.resume(instance, network_info):
                LOG.warning(
                    "The host was restarted while the server was suspended: its memory "
                    "is lost, and it starts from its disk.",
                    instance=instance,
                )
                self.power_on(
                    context,
                    instance,
                    network_info,
                    block_device_info,
                    share_info=share_info,
                )

    def quiesce(
        self, context: Any, instance: objects.Instance, image_meta: objects.ImageMeta
    ) -> None:
        # A frozen server does not write, and what it has written is in the host's page
        # cache, which a snapshot reads. It is not for long: the links stay.
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
        # Powering on a running server has no effect.
        self.power_on(
            context, instance, network_info, block_device_info, share_info=share_info
        )

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
        LOG.info("Attempting rescue", instance=instance)
        rescue.check(instance, image_meta)
        self._images.check(image_meta, instance.flavor)
        # Fetching may take a while; the server keeps running until it is done.
        level = rescue.level_of(self._client, instance)
        self._boot.fetch(context, instance, image_meta, level, rescue=True)
        self._reboots.settle(instance)
        with rescue.set_aside(self._client, instance) as broken:
            mounts = rescue.mounts(instance, broken)
            self._boot.create(
                context,
                instance,
                image_meta,
                network_info,
                level,
                mounts,
                rescue=True,
                mode=volume_mode.of_container(broken["Config"]["Labels"]),
            )
            self.power_on(
                context,
                instance,
                network_info,
                block_device_info,
                share_info=share_info,
            )
        password.inject(self._guest(instance), instance, image_meta, rescue_password)

    def unrescue(self, context: Any, instance: objects.Instance) -> None:
        self._reboots.settle(instance)
        rescue.bring_back(self._client, instance)
        self.power_on(context, instance, instance.get_network_info())

    # Resize and migration

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
        # On the same host, nothing is powered off, except with gVisor or with volumes:
        # the limits of the container change. They change here, where Nova can still
        # roll back a failure.
        moves = dest != CONF.my_ip
        with rolled_back():
            self._reboots.settle(instance)
            found = self._guest(instance).namespaces()
            resize.refuse(
                instance,
                flavor,
                moves=moves,
                disk_quota=self._host.disk_quota,
                disk_device=self._host.disk_device,
                level=found.level,
                mode=found.volume_mode,
                ephemeral_gb=disks.ephemeral_gb(block_device_info),
            )
            self._host.refuse_swap(flavor)
            withdrawn = self._volumes.withdrawn(
                instance, network_info, block_device_info, timeout
            )
            if moves:
                stop = functools.partial(self._power.stop, instance, timeout)
                self._cold.leave(context, instance, dest, timeout, withdrawn, stop)
            else:
                with withdrawn:
                    self._power.limit(instance, network_info, flavor, timeout)
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
        if migration.source_compute != migration.dest_compute:
            self._boot.check(instance, image_meta, block_device_info)
            mode = volume_mode_of(instance, image_meta)
            with self._volumes.connected(instance, block_device_info, mode):
                self._cold.arrive(context, instance, image_meta, network_info)
        if power_on:
            self.power_on(
                context,
                instance,
                network_info,
                block_device_info,
                share_info=share_info,
            )

    def confirm_migration(
        self,
        context: Any,
        migration: objects.Migration,
        instance: objects.Instance,
        network_info: Any,
    ) -> None:
        # One that was resized on its host has no old copy to remove.
        if migration.source_compute != migration.dest_compute:
            self.cleanup(context, instance, network_info)

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
        self._power.limit(
            instance, network_info, instance.flavor, CONF.shutdown_timeout
        )
        if power_on:
            self.power_on(
                context,
                instance,
                network_info,
                block_device_info,
                share_info=share_info,
            )

    def check_instance_shared_storage_local(
        self, context: Any, instance: objects.Instance
    ) -> str:
        return CONF.host

    def check_instance_shared_storage_remote(self, context: Any, data: str) -> bool:
        # Hosts never share an engine, and so never share a container.
        return data == CONF.host

    # Volumes

    def get_volume_connector(self, instance: objects.Instance) -> dict[str, Any]:
        return connections.properties()

    def default_root_device_name(
        self,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        root_bdm: objects.BlockDeviceMapping,
    ) -> str:
        return disks.ROOT_DEVICE

    def attach_volume(
        self,
        context: Any,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
        disk_bus: str | None = None,
        device_type: str | None = None,
        encryption: dict[str, Any] | None = None,
    ) -> None:
        with (
            self._reboots.held_off(instance),
            self._volumes.attached(connection_info, instance, mountpoint),
        ):
            config_drive.note_devices(context, instance)

    def detach_volume(
        self,
        context: Any,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
        encryption: dict[str, Any] | None = None,
    ) -> None:
        with self._reboots.held_off(instance):
            self._volumes.detach(connection_info, instance, mountpoint)

    def extend_volume(
        self,
        context: Any,
        connection_info: dict[str, Any],
        instance: objects.Instance,
        requested_size: int,
    ) -> None:
        self._volumes.extend(connection_info)

    def swap_volume(
        self,
        context: Any,
        old_connection_info: dict[str, Any],
        new_connection_info: dict[str, Any],
        instance: objects.Instance,
        mountpoint: str,
        resize_to: int,
    ) -> None:
        with self._reboots.held_off(instance):
            self._volumes.swap(
                old_connection_info, new_connection_info, instance, mountpoint
            )

    def get_all_volume_usage(
        self, context: Any, compute_host_bdms: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        return self._volumes.usage(compute_host_bdms)

    # Shares

    def mount_share(
        self,
        context: Any,
        instance: objects.Instance,
        share_mapping: objects.ShareMapping,
    ) -> None:
        shares.mount(instance, share_mapping)

    def umount_share(
        self,
        context: Any,
        instance: objects.Instance,
        share_mapping: objects.ShareMapping,
    ) -> bool:
        return shares.unmount(instance, share_mapping)

    def is_share_mounted(self, share_mapping: objects.ShareMapping) -> bool:
        return shares.is_mounted(share_mapping)

    # Images

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
        self._snapshots.recover()
        self._image_cache.prune(all_instances)

    # Network

    def plug_vifs(self, instance: objects.Instance, network_info: Any) -> None:
        with self._reboots.held_off(instance):
            self._power.plug(instance, network_info)

    def unplug_vifs(self, instance: objects.Instance, network_info: Any) -> None:
        self._nics.unplug(instance, network_info)

    def attach_interface(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        vif: Any,
    ) -> None:
        with self._reboots.held_off(instance):
            found = self._guest(instance).namespaces()
            isolation.refuse_change_of_nics(found.level, found.in_use, instance.uuid)
            with self._nics.attached(
                instance, vif, level=found.level, connected=found.running
            ):
                config_drive.note_devices(context, instance)

    def detach_interface(
        self, context: Any, instance: objects.Instance, vif: Any
    ) -> None:
        with self._reboots.held_off(instance):
            # Only gVisor can object. Neither a container that is missing nor an engine
            # that fails keeps the host from detaching a NIC, whose port Neutron may
            # have deleted.
            try:
                found = self._guest(instance).namespaces()
            except exception.NovaException as error:
                LOG.debug("The isolation is unknown: %s", error, instance=instance)
            else:
                isolation.refuse_change_of_nics(
                    found.level, found.in_use, instance.uuid
                )
            self._nics.detach(instance, vif)

    def _guest(self, instance: objects.Instance) -> Guest:
        return Guest(self._client, instance)
