# SPDX-License-Identifier: Apache-2.0
"""Servers that arrive at this host: what another host sends of them, before they stop
there for good.

Another host may be in the hands of an attacker. It can send only servers that Nova is
moving from it to this host, and of these only files, below the directory of the layer.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pathlib
import socket
import threading
from concurrent import futures
from typing import Any
from typing import NamedTuple

from nova import conf as nova_conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import uuidutils

from docker_engine.printable import printable
from nova_docker.container import naming
from nova_docker.host.host import Host
from nova_docker.migration import transport
from nova_docker.migration.stream import Channel
from nova_docker.migration.stream import Refused
from nova_docker.privsep import layers

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

VERSION = 1

_NOTES = "docker-arriving"
# More than Nova moves to a host at once; others wait.
_MOST = 8
_BACKLOG = 64


class Arrived(NamedTuple):
    """What has arrived of a server beside its layer.

    :ivar image: the engine's ID of its image
    :ivar level: of :mod:`nova_docker.container.isolation`
    :ivar config_drive: as :func:`nova_docker.config_drive.read` returns it
    """

    image: str
    level: str
    config_drive: dict[str, bytes] | None


class Receiver:
    """Receives servers, in threads of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._listener: socket.socket | None = None
        self._pool = futures.ThreadPoolExecutor(
            _MOST, thread_name_prefix="docker-receive"
        )

    def start(self) -> None:
        """Forget what an earlier nova-compute has received, and listen.

        :raises OSError: if the socket cannot be made
        """
        for uuid in self._waiting():
            self.discard(uuid)
        path = transport.socket_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
        self._listener = listener
        threading.Thread(
            target=self._accept, args=(listener,), name="docker-receiver", daemon=True
        ).start()

    def stop(self) -> None:
        """Accept no servers any more."""
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()

    def take(self, uuid: str) -> Arrived:
        """Return what has arrived of a server.

        :raises MigrationError: if nothing has
        """
        try:
            found = json.loads(_note(uuid).read_bytes())
        except FileNotFoundError:
            raise exception.MigrationError(
                reason="nothing of the server has arrived at this host; nova-compute "
                "may have been restarted meanwhile"
            ) from None
        return Arrived(found["image"], found["level"], _decoded(found["config_drive"]))

    def discard(self, uuid: str) -> None:
        """Remove what has arrived of a server, if anything has.

        :raises OSError: if it cannot be removed
        """
        _note(uuid).unlink(missing_ok=True)
        layers.discard(self._host.data_root, naming.name_of(uuid))

    def _waiting(self) -> list[str]:
        """Return the UUIDs of servers of which something has arrived."""
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in _note("").iterdir()]
        return []

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                stream, _ = listener.accept()
            except OSError:
                return
            self._pool.submit(self._serve, stream)

    def _serve(self, stream: socket.socket) -> None:
        channel = Channel(stream)
        try:
            self._receive(channel)
        except Exception as error:
            LOG.warning("Failed to receive a server: %s", error)
            with contextlib.suppress(OSError):
                channel.tell(error=str(error))
        finally:
            channel.close()

    def _receive(self, channel: Channel) -> None:
        source = str(channel.hear().get("host"))
        header = channel.hear()
        uuid = self._check(source, header)
        LOG.info("Receiving server %s from %s", uuid, source)
        channel.tell(ready=True)
        # The server there is stopped now.
        self._prepare(uuid)
        try:
            size = self._receive_layer(channel, uuid)
            _write_note(uuid, header)
        except Exception:
            self.discard(uuid)
            raise
        channel.tell(done=size)
        LOG.info("Received %d bytes of server %s", size, uuid)

    def _prepare(self, uuid: str) -> None:
        _note("").mkdir(mode=0o700, parents=True, exist_ok=True)
        # An incomplete one is found by this when nova-compute starts again.
        _note(uuid).touch(mode=0o600)

    def _receive_layer(self, channel: Channel, uuid: str) -> int:
        with transport.meeting() as (address, accept):
            unpacking = futures.ThreadPoolExecutor(1).submit(
                layers.unpack, self._host.data_root, naming.name_of(uuid), address
            )
            with accept() as target:
                size = channel.receive_data(target)
            unpacking.result()
        return size

    def _check(self, source: str, header: dict[str, Any]) -> str:
        """Return the UUID of a server that may come.

        :raises Refused: if it may not, or could not run here
        """
        uuid = str(header.get("server"))
        if header.get("version") != VERSION or not uuidutils.is_uuid_like(uuid):
            raise Refused("the other host has another release of the Docker driver")
        _refuse_unexpected(uuid, source)
        if reason := self._host.why_no_moves():
            raise Refused(f"{CONF.host}: {reason}")
        level = str(header.get("level"))
        if reason := self._host.isolation.why_not(level):
            raise Refused(f"{CONF.host} cannot isolate the server ({level}): {reason}")
        return uuid


def _refuse_unexpected(uuid: str, source: str) -> None:
    """Refuse a server that Nova is not moving from one host to this one.

    :raises Refused: if so
    """
    try:
        found = objects.Migration.get_by_instance_and_status(
            nova_context.get_admin_context(), uuid, "migrating"
        )
    except exception.MigrationNotFoundByStatus:
        found = None
    if not found or (found.source_compute, found.dest_compute) != (source, CONF.host):
        raise Refused(f"Nova is not moving server {uuid} from {source} to {CONF.host}")


def _write_note(uuid: str, header: dict[str, Any]) -> None:
    note = {name: header[name] for name in ("image", "level", "config_drive")}
    _decoded(note["config_drive"])
    _note(uuid).write_text(json.dumps(note))


def encoded(files: dict[str, bytes] | None) -> dict[str, str] | None:
    """Return the files of a config drive for a message."""
    if files is None:
        return None
    return {name: base64.b64encode(data).decode() for name, data in files.items()}


def _decoded(files: dict[str, str] | None) -> dict[str, bytes] | None:
    """Return the files of a config drive from a message.

    :raises Refused: if they do not make sense
    """
    if files is None:
        return None
    try:
        for name in files:
            if not pathlib.PurePath(name).parts or ".." in pathlib.PurePath(name).parts:
                raise ValueError(name)
            if name.startswith("/"):
                raise ValueError(name)
        return {name: base64.b64decode(data) for name, data in files.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise Refused(printable(f"not a config drive: {error}")) from None


def _note(uuid: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _NOTES, uuid)
