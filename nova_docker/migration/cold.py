# SPDX-License-Identifier: Apache-2.0
"""Cold migration: a server is stopped on one host and continues on another.

The image is had there in the usual way, and only the server's writable layer travels.
It does so before Nova takes the server for one of the other host: whatever fails until
then, the server runs on where it was. There it stays, stopped, until the user confirms.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from nova import exception
from nova import objects
from nova.image import glance
from oslo_log import log as logging

from docker_engine.client import DockerClient
from nova_docker import config_drive
from nova_docker.boot import Boot
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.errors import translated
from nova_docker.host.host import Host
from nova_docker.migration import transport
from nova_docker.migration.receiver import VERSION
from nova_docker.migration.receiver import Arrived
from nova_docker.migration.receiver import Receiver
from nova_docker.migration.receiver import encoded
from nova_docker.migration.stream import DATA_SECONDS
from nova_docker.migration.stream import Channel
from nova_docker.migration.stream import Refused
from nova_docker.privsep import layers
from nova_docker.volume import ephemerals

LOG = logging.getLogger(__name__)

# Servers that come to the other host before this one may be large.
READY_SECONDS = 600


class ColdMigration:
    """Moves servers to and from this host."""

    def __init__(
        self,
        client: DockerClient,
        host: Host,
        boot: Boot,
        receiver: Receiver,
        images: Any = None,
    ) -> None:
        """
        :param images: ``nova.image.glance.API`` or a stand-in
        """
        self._client = client
        self._host = host
        self._boot = boot
        self._receiver = receiver
        self._images = images or glance.API()

    def leave(
        self,
        context: Any,
        instance: objects.Instance,
        dest: str,
        timeout: int,
        withdrawn: AbstractContextManager[None],
        stop: Callable[[], None],
    ) -> None:
        """Send a server to another host; it is stopped here then.

        Serves ComputeDriver.migrate_disk_and_power_off.

        :param dest: the other host's ``[DEFAULT]my_ip``
        :param timeout: seconds that ``stop`` may take
        :param withdrawn: disconnects its volumes; starts it again if the block fails
        :param stop: stops the server
        :raises MigrationPreCheckError: if the server cannot move; it has not been
            stopped
        :raises MigrationError: if it could not be sent; it runs as before
        """
        found = self._inspect(instance)
        self._refuse(context, instance, found)
        layer = found["GraphDriver"]["Data"]["UpperDir"]
        size, files = layers.size(layer)
        with transport.connected(dest) as channel:
            channel.tell(
                version=VERSION,
                server=instance.uuid,
                image=found["Image"],
                level=isolation.of_container(found["Config"]["Labels"]),
                config_drive=encoded(config_drive.read(instance.uuid)),
                size=size,
                files=files,
                stop_seconds=timeout,
            )
            try:
                channel.hear(READY_SECONDS)
            except Refused as error:
                raise exception.MigrationPreCheckError(reason=str(error)) from error
            with withdrawn:
                stop()
                try:
                    sent = self._send(channel, layer)
                except Refused as error:
                    raise exception.MigrationError(reason=str(error)) from error
                LOG.info("Sent %d bytes to %s", sent, dest, instance=instance)

    @staticmethod
    def _send(channel: Channel, layer: str) -> int:
        """Send a layer, and wait until the other host has all of it.

        :raises Refused: if it cannot take it
        """
        pack = functools.partial(layers.pack, layer)
        with transport.meeting(pack) as (source, finish):
            try:
                sent = channel.send_data(source, finish)
            except (BrokenPipeError, ConnectionResetError):
                # The other host says why, before it closes the connection.
                channel.hear()
                raise
        channel.hear(DATA_SECONDS)
        return sent

    def arrive(
        self,
        context: Any,
        instance: objects.Instance,
        image_meta: objects.ImageMeta,
        network_info: Any,
    ) -> None:
        """Create a server of what has arrived of it, stopped. Serves finish_migration.

        :raises MigrationError: if nothing has arrived, or it needs another image; there
            is no container here then
        """
        with self._receiver.taken(instance.uuid) as arrived:
            # A resize has given it another flavor meanwhile.
            reason = self._host.isolation.why_not(arrived.level, instance.flavor)
            if reason:
                raise exception.MigrationError(reason=reason)
            self._boot.move_in(
                context,
                instance,
                image_meta,
                network_info,
                arrived.level,
                arrived.config_drive,
                lambda: self._fill(instance, arrived),
            )

    def _fill(self, instance: objects.Instance, arrived: Arrived) -> None:
        """Give the container that has been created the files of the server."""
        found = self._inspect(instance)
        if found["Image"] != arrived.image:
            raise exception.MigrationError(
                reason="the image that this host has is not the one that the server "
                "was created from"
            )
        layers.adopt(
            self._host.data_root,
            naming.name_of(instance.uuid),
            found["GraphDriver"]["Data"]["UpperDir"],
        )

    def _inspect(self, instance: objects.Instance) -> dict[str, Any]:
        with translated(instance.uuid):
            found: dict[str, Any] = self._client.inspect_container(
                naming.name_of(instance.uuid)
            )
        return found

    def _refuse(
        self, context: Any, instance: objects.Instance, found: dict[str, Any]
    ) -> None:
        """Refuse a server that cannot move, while it runs.

        :raises MigrationPreCheckError: if so
        """
        reason = self._host.why_no_moves() or self._why_not(context, instance, found)
        if reason:
            raise exception.MigrationPreCheckError(reason=reason)

    def _why_not(
        self, context: Any, instance: objects.Instance, found: dict[str, Any]
    ) -> str | None:
        if ephemerals.has_any(instance.uuid):
            return "the server has ephemeral disks, which stay on their host"
        if any(mount["Type"] == "volume" for mount in found["Mounts"]):
            return (
                "an earlier release has created the server, with volumes of the Docker "
                "engine, which stay on their host; rebuild it first"
            )
        try:
            self._images.get(context, instance.image_ref)
        except exception.NovaException as error:
            return (
                "the other host would need the server's image, which Glance does not "
                f"have any more: {error}"
            )
        return None
