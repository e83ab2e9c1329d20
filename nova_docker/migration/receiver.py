# SPDX-License-Identifier: Apache-2.0
"""Servers that arrive at this host: what another host sends of them, before they stop
there for good.

Another host may be in the hands of an attacker. It can send only servers that Nova is
moving from it to this host, and of these only files, below the directory of the layer.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import functools
import json
import os
import pathlib
import socket
import threading
import uuid as uuids
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from nova import conf as nova_conf
from nova import context as nova_context
from nova import exception
from nova import objects
from oslo_log import log as logging
from oslo_utils import units
from oslo_utils import uuidutils

from docker_engine.printable import printable
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.host.host import Host
from nova_docker.migration import transport
from nova_docker.migration.stream import Channel
from nova_docker.migration.stream import Refused
from nova_docker.privsep import layers
from nova_docker.storage.space import NoSpace
from nova_docker.storage.space import Reservation

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

VERSION = 1

_NOTES = "docker-arriving"
# More than Nova moves to a host at once; others wait. One host cannot keep all others
# from moving theirs.
_MOST = 8
_MOST_OF_HOST = _MOST // 2
# Connections, also those that wait
_OPEN = 64
_OPEN_OF_HOST = 16
_STEP = 16 * units.Mi
_MAX_STOP_SECONDS = 3600


class Arrived(NamedTuple):
    """What has arrived of a server beside its layer.

    :ivar image: the engine's ID of its image
    :ivar level: of :mod:`nova_docker.container.isolation`
    :ivar config_drive: as :func:`nova_docker.config_drive.read` returns it
    """

    image: str
    level: str
    config_drive: dict[str, bytes] | None


class Announced(NamedTuple):
    """What another host says of a server before it sends its layer.

    :ivar size: bytes of the disk that the layer has there
    :ivar files: inodes
    :ivar stop_seconds: how long it may take to stop there
    """

    server: str
    image: str
    level: str
    config_drive: dict[str, str] | None
    size: int
    files: int
    stop_seconds: int


class Receiver:
    """Receives servers, in threads of its own, from :meth:`start` to :meth:`stop`."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._listener: socket.socket | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Channel] = set()
        self._open_of: collections.Counter[str] = collections.Counter()
        self._turns = threading.Semaphore(_MOST)
        self._turns_of: dict[str, threading.Semaphore] = {}
        # UUIDs of servers that somebody is receiving, or creating from what has arrived
        self._busy: set[str] = set()

    def start(self) -> None:
        """Forget what an earlier nova-compute has received, and listen.

        :raises OSError: if the socket cannot be made
        """
        for uuid in self._waiting():
            try:
                self.discard(uuid)
            except Exception:
                LOG.exception("Failed to remove what has arrived of server %s", uuid)
        path = transport.socket_path()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_OPEN)
        self._stopped.clear()
        self._listener = listener
        _in_thread(self._accept, listener)

    def stop(self) -> None:
        """Accept no servers any more. Those that are coming stay where they are."""
        self._stopped.set()
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        with self._lock:
            for channel in self._open:
                channel.abort()

    @contextlib.contextmanager
    def taken(self, uuid: str) -> Iterator[Arrived]:
        """Let the block use what has arrived of a server; remove it afterwards.

        :raises MigrationError: if nothing has, or not all
        """
        with self._claimed(uuid):
            try:
                yield self._find(uuid)
            finally:
                try:
                    self.discard(uuid)
                except OSError:
                    LOG.exception("Failed to remove what has arrived of %s", uuid)

    def discard(self, uuid: str) -> None:
        """Remove what has arrived of a server, if anything has.

        :raises OSError: if it cannot be removed
        """
        _write_note(uuid, {})
        layers.discard(self._host.data_root, naming.name_of(uuid))
        # At last, because it is how start() finds the layer.
        _note(uuid).unlink(missing_ok=True)

    def _find(self, uuid: str) -> Arrived:
        try:
            found = json.loads(_note(uuid).read_bytes())
        except FileNotFoundError:
            found = {}
        if not found:
            raise exception.MigrationError(
                reason="nothing of the server has arrived at this host; nova-compute "
                "may have been restarted meanwhile"
            )
        return Arrived(found["image"], found["level"], _decoded(found["config_drive"]))

    def _waiting(self) -> list[str]:
        """Return the UUIDs of servers of which something has arrived."""
        with contextlib.suppress(FileNotFoundError):
            return [path.name for path in _note("").iterdir()]
        return []

    @contextlib.contextmanager
    def _claimed(self, uuid: str) -> Iterator[None]:
        """Keep others from what has arrived of a server.

        :raises MigrationError: if somebody else uses it
        """
        with self._lock:
            if uuid in self._busy:
                raise exception.MigrationError(
                    reason=f"server {uuid} is still arriving at {CONF.host}"
                )
            self._busy.add(uuid)
        try:
            yield
        finally:
            with self._lock:
                self._busy.remove(uuid)

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                stream, _ = listener.accept()
            except OSError:
                # There may be too many open files.
                self._stopped.wait(1)
                continue
            channel = Channel(stream)
            with self._lock:
                full = len(self._open) >= _OPEN
                if not full:
                    self._open.add(channel)
            if full:
                channel.close()
            else:
                _in_thread(self._serve, channel)

    def _serve(self, channel: Channel) -> None:
        try:
            source = str(channel.hear().get("host"))
            with self._queued(channel, source):
                announced = _announced(channel.hear())
                with self._turn(source):
                    self._receive(channel, source, announced)
        except Exception as error:
            LOG.warning("Failed to receive a server: %s", error)
            with contextlib.suppress(OSError):
                channel.tell(error=str(error))
        finally:
            with self._lock:
                self._open.remove(channel)
            channel.close()

    @contextlib.contextmanager
    def _queued(self, channel: Channel, source: str) -> Iterator[None]:
        """Count a connection of a host.

        :raises Refused: if it has too many
        """
        with self._lock:
            self._open_of[source] += 1
            too_many = self._open_of[source] > _OPEN_OF_HOST
        try:
            if too_many:
                # The other host may not get the answer if its message stays unread.
                channel.hear(1)
                raise Refused(
                    f"{CONF.host} is receiving {_OPEN_OF_HOST} servers of {source}"
                )
            yield
        finally:
            with self._lock:
                self._open_of[source] -= 1

    @contextlib.contextmanager
    def _turn(self, source: str) -> Iterator[None]:
        """Wait until fewer servers are coming."""
        with self._lock:
            own = self._turns_of.setdefault(source, threading.Semaphore(_MOST_OF_HOST))
        with own, self._turns:
            yield

    def _receive(self, channel: Channel, source: str, announced: Announced) -> None:
        uuid = announced.server
        with self._claimed(uuid):
            self._check(source, announced)
            with self._space(announced) as reservation:
                LOG.info("Receiving server %s from %s", uuid, source)
                self._prepare(uuid)
                try:
                    channel.tell(ready=True)
                    # The server is stopped there now.
                    size = self._receive_layer(channel, announced, reservation)
                    note = {"image", "level", "config_drive"}
                    values = announced._asdict()
                    _write_note(uuid, {name: values[name] for name in note})
                except Exception:
                    self.discard(uuid)
                    raise
        channel.tell(done=size)
        LOG.info("Received %d bytes of server %s", size, uuid)

    @contextlib.contextmanager
    def _space(self, announced: Announced) -> Iterator[Reservation]:
        """Reserve what a server will need of the engine's disk.

        :raises Refused: if there is not enough
        """
        try:
            with self._host.space.reserve(announced.size, announced.files) as found:
                yield found
        except NoSpace as error:
            raise Refused(f"{CONF.host}: {error}") from error

    def _prepare(self, uuid: str) -> None:
        """Remove what an earlier attempt has left, and let start() find this one."""
        self.discard(uuid)
        _write_note(uuid, {})

    def _receive_layer(
        self, channel: Channel, announced: Announced, reservation: Reservation
    ) -> int:
        # The other host may send more than it has said, and many small files.
        looked = 0

        def allow(received: int) -> None:
            nonlocal looked
            if received > reservation.size:
                reservation.grow(_STEP)
            if received > looked + units.Mi:
                looked = received
                if self._host.space.is_short():
                    raise NoSpace("the engine's disk is full")

        unpack = functools.partial(
            layers.unpack, self._host.data_root, naming.name_of(announced.server)
        )
        with transport.meeting(unpack) as (target, finish):
            size = channel.receive_data(target, allow, announced.stop_seconds)
            target.shutdown(socket.SHUT_WR)
            finish()
        return size

    def _check(self, source: str, announced: Announced) -> None:
        """Refuse a server that may not come, or could not run here.

        :raises Refused: if so
        """
        instance = _expected(announced.server, source)
        reason = self._host.why_no_moves() or self._host.isolation.why_not(
            announced.level, instance.flavor
        )
        if reason:
            raise Refused(f"{CONF.host}: {reason}")


def _in_thread(target: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a thread that does not keep nova-compute from ending."""
    threading.Thread(
        target=target, args=arguments, name="docker-receiver", daemon=True
    ).start()


def _announced(header: dict[str, Any]) -> Announced:
    """Return what another host says of a server.

    :raises Refused: if it does not make sense
    """
    if header.get("version") != VERSION:
        raise Refused("the other host has another release of the Docker driver")
    try:
        found = Announced(**{name: header[name] for name in Announced._fields})
    except KeyError as error:
        raise Refused(f"the other host does not say {error}") from None
    numbers = (found.size, found.files, found.stop_seconds)
    if (
        not all(isinstance(value, str) for value in found[:3])
        or not all(type(value) is int and 0 <= value < 1 << 62 for value in numbers)
        or found.level not in isolation.LEVELS
        or not uuidutils.is_uuid_like(found.server)
    ):
        raise Refused("the other host does not make sense")
    _decoded(found.config_drive)
    return found._replace(
        server=str(uuids.UUID(found.server)),
        stop_seconds=min(found.stop_seconds, _MAX_STOP_SECONDS),
    )


def _expected(server: str, source: str) -> objects.Instance:
    """Return a server that Nova is moving from one host to this one.

    :raises Refused: if it is not
    """
    context = nova_context.get_admin_context()
    try:
        found = objects.Migration.get_by_instance_and_status(
            context, server, "migrating"
        )
    except exception.MigrationNotFoundByStatus:
        found = None
    if not found or (found.source_compute, found.dest_compute) != (source, CONF.host):
        raise Refused(f"Nova is not moving server {server} from {source} to this host")
    return objects.Instance.get_by_uuid(context, server, expected_attrs=["flavor"])


def _write_note(server: str, note: dict[str, Any]) -> None:
    """Write what has arrived of a server; nothing if it is not complete."""
    path = _note(server)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(json.dumps(note))


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
            path = pathlib.PurePath(name)
            if not path.parts or ".." in path.parts or path.is_absolute():
                raise ValueError(name)
        return {
            name: base64.b64decode(data, validate=True) for name, data in files.items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise Refused(printable(f"not a config drive: {error}")) from None


def _note(server: str) -> pathlib.Path:
    return pathlib.Path(CONF.state_path, _NOTES, server)
