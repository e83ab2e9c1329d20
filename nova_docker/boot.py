# SPDX-License-Identifier: Apache-2.0
"""The boot of a server: its image, its NICs and its container, in parallel.

While the NICs are plugged and Neutron wires the ports, the image is fetched if the
engine does not have it, and the container is created. It starts when the ports are
wired. A boot that fails leaves nothing behind.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Container as Contains
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent import futures
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import task_states
from oslo_log import log as logging
from oslo_utils import excutils

from docker_engine.client import DockerClient
from nova_docker import config_drive
from nova_docker import injection
from nova_docker import unsupported
from nova_docker.container import init as inits
from nova_docker.container import isolation
from nova_docker.container import limits
from nova_docker.container import naming
from nova_docker.container import pinning
from nova_docker.container import quota
from nova_docker.container import settings
from nova_docker.container import spec
from nova_docker.container import volume_mode
from nova_docker.errors import EngineTimeout
from nova_docker.guest import Guest
from nova_docker.host.host import Host
from nova_docker.image import configuration
from nova_docker.image import properties
from nova_docker.image.store import ImageStore
from nova_docker.nics import Nics
from nova_docker.nics import nameservers
from nova_docker.storage import image_volumes
from nova_docker.storage.mounts import Mount
from nova_docker.volume import disks
from nova_docker.volume import ephemerals

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_MAX_CHECKED = 1024


def level_of(instance: objects.Instance) -> str:
    """Return the level of isolation that a new server gets."""
    return isolation.level_of(instance.flavor, CONF.docker.isolation)


def volume_mode_of(instance: objects.Instance, image_meta: objects.ImageMeta) -> str:
    """Return how a new server gets its volumes.

    :raises InvalidInput: if its flavor or image requests what there is not
    """
    return volume_mode.of_server(
        instance.flavor,
        properties.own(instance, image_meta, volume_mode.PROPERTY),
        CONF.docker.volume_mode,
    )


class Boot:
    """Creates servers and removes them. Several threads may use it at the same time."""

    def __init__(
        self, client: DockerClient, host: Host, images: ImageStore, nics: Nics
    ) -> None:
        self._client = client
        self._host = host
        self._images = images
        self._nics = nics
        # Images, and where the container has mounts
        self._checked: set[tuple[str, ...]] = set()
        # UUIDs of deleted servers
        self._unanswering: set[str] = set()
        # Only for NICs, which no container that does not answer can delay. It is not
        # shut down, because Nova ends operations after it has called cleanup_host().
        self._pool = futures.ThreadPoolExecutor(thread_name_prefix="docker")

    def check(
        self,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        block_device_info: Any,
    ) -> None:
        """Refuse a server that cannot be a container, before anything is done for it.

        :raises InvalidInput: for hardware, disks or limits that a container cannot
            have, and for isolation or an init that the host does not have
        :raises ImageUnacceptable: if the image's properties show that it cannot boot
        :raises FlavorDiskSmallerThanImage: if the image does not fit the root disk
        """
        unsupported.refuse(instance.flavor, image_meta)
        pinning.refuse(instance.flavor, image_meta, instance.numa_topology)
        self._host.isolation.refuse(instance.flavor)
        default_format = CONF.default_ephemeral_format
        mode = volume_mode_of(instance, image_meta)
        volume_mode.refuse(mode, mounts=CONF.docker.mount_volumes)
        disks.refuse(block_device_info, level_of(instance), default_format, mode)
        ephemerals.refuse(disks.ephemerals(block_device_info, default_format))
        self._host.refuse_swap(instance.flavor)
        quota.refuse(instance.flavor, level_of(instance), self._host.disk_device)
        settings.refuse(instance.flavor, level_of(instance))
        properties.settings(instance, image_meta)
        properties.command(image_meta)
        # The image may have another one, which is known when it is fetched.
        if init := properties.init(instance, image_meta):
            inits.refuse(init, level_of(instance), self._host.missing_inits)
        self._images.check(image_meta, instance.flavor)

    def fetch(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        level: str,
        *,
        rescue: bool = False,
    ) -> tuple[dict[str, Any], str]:
        """Ensure that the engine has an image, and that the server can run it.

        :param level: of :mod:`nova_docker.container.isolation`
        :param rescue: whether it is the image of a rescue container
        :returns: the image, as GET /images/{name}/json returns it; and the server's
            init, of :mod:`nova_docker.container.init`
        :raises InvalidInput: if the server cannot run the image's init
        :raises ImageUnacceptable: or whatever else :meth:`ImageStore.ensure` raises
        """
        image = self._images.ensure(
            context, image_meta, instance.flavor, instance.trusted_certs
        )
        init = inits.of_image(
            image.get("Config") or {},
            properties.command(image_meta),
            properties.init(instance, image_meta),
            # If the init is another one, a rescue image has no way to say so: Nova
            # drops the property.
            recognise=level == isolation.USER or not rescue,
        )
        inits.refuse(init, level, self._host.missing_inits)
        return image, init

    def run(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
        injected_files: Sequence[tuple[str, bytes]],
        admin_password: str | None,
        power_on: bool,
    ) -> None:
        """Create and start a server. Serves ComputeDriver.spawn, with its arguments.

        :param power_on: False to leave the server stopped
        :raises InstanceExists: if it exists already; it stays as it is
        :raises NovaException: if the boot fails; nothing is left behind
        """
        level = level_of(instance)

        def create() -> None:
            instance.device_metadata = config_drive.device_metadata(context, instance)
            mounts = config_drive.write(
                instance, injected_files, admin_password, network_info
            )
            self.create(
                context,
                instance,
                image_meta,
                network_info,
                level,
                mounts,
                injected_files,
            )

        self._run(instance, network_info, level, create, power_on)

    def move_in(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
        level: str,
        drive: Mapping[str, bytes] | None,
        fill: Callable[[], None],
    ) -> None:
        """Create a server that comes from another host, stopped.

        :param level: its level of isolation there
        :param drive: content of its config drive, as
            :func:`nova_docker.config_drive.read` returns it
        :param fill: gives its container, which has been created, its files
        :raises InstanceExists: if it exists already; it stays as it is
        :raises NovaException: if that fails; nothing is left behind
        """

        def create() -> None:
            mounts = config_drive.write_files(instance, drive) if drive else []
            image, init = self.fetch(context, instance, image_meta, level)
            self._create(instance, image_meta, network_info, level, mounts, image, init)
            fill()

        self._run(instance, network_info, level, create, power_on=False)

    def _run(
        self,
        instance: objects.Instance,
        network_info: Any,
        level: str,
        create: Callable[[], None],
        power_on: bool,
    ) -> None:
        """Plug the NICs of a server while it is created, and start it."""
        with self._undone_on_failure(instance, network_info):
            with self._nics.wired(instance, network_info):
                plugging = self._pool.submit(
                    self._nics.plug, instance, network_info, level=level
                )
                try:
                    create()
                finally:
                    plugging.result()
            if power_on:
                Guest(self._client, instance).start(checked=True)
            else:
                self._nics.cut(instance)

    def create(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
        level: str,
        mounts: Sequence[Mount] = (),
        injected_files: Sequence[tuple[str, bytes]] = (),
        *,
        rescue: bool = False,
        mode: str | None = None,
    ) -> None:
        """Create a server's container, stopped, with its files and SSH key.

        :param level: of :mod:`nova_docker.container.isolation`
        :param mounts: as :mod:`nova_docker.storage.mounts` returns them
        :param rescue: whether it is a rescue container
        :param mode: how it has volumes, None for :func:`volume_mode_of` a new server
        :raises InstanceExists: if it exists already
        :raises ImageUnacceptable: if the image cannot be used, or has no place for an
            injected file
        :raises InvalidInput: if the server cannot run the image's init
        :raises InstancePowerOnFailure: if the image has files that block the engine
        """
        image, init = self.fetch(context, instance, image_meta, level, rescue=rescue)
        mounts, volume_paths = self._create(
            instance, image_meta, network_info, level, mounts, image, init, mode
        )
        image_volumes.create_directories(self._client, instance, volume_paths, mounts)
        injection.inject_files(self._client, instance, injected_files)
        if CONF.docker.inject_key and instance.key_data:
            injection.inject_key(
                self._client,
                instance,
                instance.key_data,
                properties.admin_user(image_meta),
            )
        # Here, because the NICs may take longer than this. An image cannot change.
        checked = (image["Id"], *sorted(mount["Target"] for mount in mounts))
        if injected_files or checked not in self._checked:
            Guest(self._client, instance).check_files()
        if not injected_files:
            if len(self._checked) >= _MAX_CHECKED:
                self._checked.clear()
            self._checked.add(checked)

    def _create(
        self,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
        level: str,
        mounts: Sequence[Mount],
        image: Mapping[str, Any],
        init: str,
        mode: str | None = None,
    ) -> tuple[list[Mount], list[str]]:
        """Create a server's container, stopped and empty.

        :param image: and ``init``, as :meth:`fetch` returns them
        :param mode: as for :meth:`create`
        :returns: its mounts; and the volumes of its image, which are part of its root
            file system
        """
        wanted = properties.settings(instance, image_meta)
        mounts = [*mounts, *settings.in_memory(wanted)]
        addresses = network_info.fixed_ips() if network_info else []
        # The volumes of the image are part of the root file system.
        volume_paths = configuration.volumes(image)
        disk_gb = instance.flavor.root_gb if self._host.disk_quota else 0
        Guest(self._client, instance).create(
            spec.specification(
                instance,
                image_meta,
                image["Id"],
                nameservers=nameservers(network_info),
                address=addresses[0]["address"] if addresses else None,
                level=level,
                init=init,
                mode=mode or volume_mode_of(instance, image_meta),
                limits={
                    **self._host.limits(instance.flavor, level, instance.numa_topology),
                    **limits.storage(disk_gb),
                    **quota.disk(instance.flavor, self._host.disk_device),
                    **settings.host_config(wanted),
                },
                read_only=wanted.read_only,
                lxcfs=CONF.docker.lxcfs or "",
                mounts=[*mounts, *image_volumes.placeholders(volume_paths, mounts)],
                image_healthcheck=CONF.docker.image_healthcheck,
                runtime=_runtime_of(level),
                network_mode=CONF.docker.network_mode,
                log_size_mb=CONF.docker.console_log_size_mb,
            )
        )
        return mounts, volume_paths

    def undo(
        self, instance: objects.Instance, network_info: Any, *, unplug: bool = True
    ) -> None:
        """Remove a server, complete or not. Serves ComputeDriver.cleanup.

        If Nova is deleting the server and its container does not answer, the container
        remains, and a warning says so: the engine removes it once it answers again, or
        else Nova, which periodically reaps what it has deleted. Its ids remain as long:
        see :meth:`release`.

        :param unplug: whether to remove its NICs and network namespace too
        :raises VirtualInterfaceUnplugException: if the virtual switch fails
        :raises NovaException: if the engine fails
        """
        with contextlib.ExitStack() as last:
            last.callback(config_drive.remove, instance.uuid)
            # Not before its network namespace is removed, which its ids own
            releasing = last.enter_context(contextlib.ExitStack())
            if unplug:
                unplugging = self._pool.submit(
                    self._nics.unplug, instance, network_info
                )
                last.callback(unplugging.result)
            # In this thread: a container that does not answer must not occupy the pool.
            if self._remove(instance):
                releasing.callback(self._nics.release, instance.uuid)
            else:
                self._unanswering.add(instance.uuid)

    def release(self, servers: Callable[[], Contains[str]]) -> None:
        """Release the ids of servers that did not answer when they were deleted.

        :param servers: returns the UUIDs of the engine's servers
        """
        if not self._unanswering:
            return
        present = servers()
        for uuid in [uuid for uuid in self._unanswering if uuid not in present]:
            self._nics.release(uuid)
            self._unanswering.discard(uuid)

    def _remove(self, instance: objects.Instance) -> bool:
        """Remove the container; return whether it is gone."""
        guest = Guest(self._client, instance)
        try:
            guest.remove()
            return True
        except EngineTimeout:
            # For another verb, the container's name must be free afterwards.
            if instance.task_state != task_states.DELETING:
                raise
            LOG.warning(
                "Container %s does not answer and is not removed yet. Nova has deleted "
                "the server and will try again. Restarting the Docker engine releases "
                "the container.",
                naming.name_of(instance.uuid),
                instance=instance,
            )
            return False

    @contextlib.contextmanager
    def _undone_on_failure(
        self, instance: objects.Instance, network_info: Any
    ) -> Iterator[None]:
        try:
            yield
        except exception.InstanceExists:
            # Container and NICs belong to the server that exists.
            raise
        except Exception:
            with excutils.save_and_reraise_exception():
                try:
                    self.undo(instance, network_info)
                except Exception:
                    LOG.exception(
                        "Failed to clean up after a failed boot", instance=instance
                    )
                    # If Nova's own attempt to destroy it fails as well, Nova sends no
                    # other for a server without a container.
                    config_drive.remove(instance.uuid)


def _runtime_of(level: str) -> str:
    """Return the engine's name of the OCI runtime for a level of isolation."""
    gvisor = level == isolation.GVISOR
    return str(CONF.docker.gvisor_runtime if gvisor else CONF.docker.runtime)
