# SPDX-License-Identifier: Apache-2.0
"""One server as the container that it is on the engine."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.virt.hardware import InstanceInfo
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.streams.frames import frames
from nova_docker import diagnostics
from nova_docker.container import limits
from nova_docker.container import naming
from nova_docker.container import state
from nova_docker.errors import translated

CONF = nova_conf.CONF

# As much as Nova's other drivers return.
MAX_CONSOLE_BYTES = 100 * 1024

_SAVED = "suspended"  # the engine's name for a checkpoint
_CLEARED = 90  # seconds
# Where programs of an image are, whatever its PATH is.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NO_COMMAND = (126, 127)  # as shells say it

# Of a program that is run beside the first process.
_SECONDS = 30
_MAX_OUTPUT = 4096
_LOOKS = 20


def list_servers(client: DockerClient) -> dict[str, dict[str, Any]]:
    """Return the containers of all servers on an engine, by UUID.

    Engine call: GET /containers/json

    :raises NovaException: if the engine fails
    """
    with translated():
        listed = client.list_containers(filters=naming.SERVERS)
    return naming.by_uuid(listed)


class Guest:
    """What can be done with one server's container.

    :raises InstanceNotFound: from each method, when the engine has none
    :raises NovaException: from each, when the engine fails, with its message
    """

    def __init__(self, client: DockerClient, instance: objects.Instance) -> None:
        self._client = client
        self._instance = instance
        self._name = naming.name_of(instance.uuid)

    def exists(self) -> bool:
        try:
            self.info()
        except exception.InstanceNotFound:
            return False
        return True

    def info(self) -> InstanceInfo:
        """Power state and container id, as ComputeDriver.get_info returns."""
        with self._engine():
            found = self._client.inspect_container(self._name)
        return InstanceInfo(
            state=state.power_state_of(found["State"]["Status"]),
            internal_id=found["Id"],
        )

    def create(self, config: dict[str, Any]) -> None:
        """Create the container, stopped.

        :param config: what :func:`nova_docker.container.spec.specification` returned
        :raises InstanceExists: when there is one
        :raises ImageNotFound: when its image has gone from the engine
        :raises InvalidInput: when the engine takes no such container
        """
        with self._engine():
            try:
                self._client.create_container(self._name, config)
            except errors.Conflict as error:
                raise exception.InstanceExists(name=self._instance.name) from error
            except errors.ImageNotFound as error:
                raise exception.ImageNotFound(image_id=config["Image"]) from error

    def start(self) -> None:
        """Run the container's command, or let it run on when it is paused.

        :raises InvalidInput: when there is no such command in the image
        :raises InstancePowerOnFailure: when it cannot be run for another reason
        """
        with self._engine(exception.InstancePowerOnFailure):
            try:
                self._client.start_container(self._name)
            except errors.Conflict:
                self._client.unpause_container(self._name)

    def stop(self, timeout: int) -> None:
        """Send the image's stop signal, and kill what runs after ``timeout`` s.

        :raises InstancePowerOffFailure: when it cannot be stopped
        """
        with self._engine(exception.InstancePowerOffFailure):
            # A frozen process would use the time up and do nothing with it.
            if timeout and self.info().state == power_state.PAUSED:
                self._client.unpause_container(self._name)
            self._client.stop_container(self._name, timeout)

    def pause(self) -> None:
        """Freeze its processes; nothing happens to one that is frozen.

        :raises InstanceNotRunning: when there are none
        """
        with self._engine(), self._running():
            if self.info().state != power_state.PAUSED:
                self._client.pause_container(self._name)

    def unpause(self) -> None:
        """Let it run on; nothing happens to one that runs.

        :raises InstanceNotRunning: when it was not frozen, but has ended
        """
        with self._engine(), self._running():
            current = self.info().state
            if current == power_state.PAUSED:
                self._client.unpause_container(self._name)
            elif current != power_state.RUNNING:
                raise exception.InstanceNotRunning(instance_id=self._instance.uuid)

    def save(self) -> None:
        """Write its processes to disk, and end them.

        :raises InstanceSuspendFailure: when they cannot be written: they run on
        """
        with self._engine(exception.InstanceSuspendFailure):
            self._client.create_checkpoint(self._name, _SAVED)

    def is_saved(self) -> bool:
        """Whether there is what :meth:`save` has written."""
        with self._engine():
            return _SAVED in self._client.list_checkpoints(self._name)

    def restore(self) -> None:
        """Let run on what was saved.

        :raises InstanceResumeFailure: when it cannot: it is saved as before
        """
        with self._engine(exception.InstanceResumeFailure):
            # An engine whose own copy of what it wrote a moment ago is not
            # cleared away yet refuses to take another (Docker before 25). It
            # clears up by and by, and sooner the more it is asked to do.
            deadline = time.monotonic() + _CLEARED
            while True:
                try:
                    self._client.start_container(self._name, checkpoint=_SAVED)
                except errors.EngineError as error:
                    late = time.monotonic() > deadline
                    if late or "already exists" not in error.message:
                        raise
                    time.sleep(0.2)
                else:
                    return

    def discard_saved(self) -> None:
        """Forget what was saved, if anything was."""
        if self.is_saved():
            with self._engine():
                self._client.delete_checkpoint(self._name, _SAVED)

    def signal(self, signal: str) -> None:
        """Send a signal to the first process.

        :param signal: as the engine takes it, for example ``SIGQUIT``
        :raises InstanceNotRunning: when there is none, or it is frozen
        """
        with self._engine(), self._running():
            # The engine would wake a frozen one for its own stop signal.
            if self.info().state == power_state.PAUSED:
                raise exception.InstanceNotRunning(instance_id=self._instance.uuid)
            self._client.kill_container(self._name, signal)

    def limit(self, flavor: objects.Flavor) -> None:
        """Change its limits; its processes run on.

        Engine calls: GET /containers/{id}/stats, GET /containers/{id}/json, POST
        /containers/{id}/update.

        :raises ResizeError: when it uses more memory than it would have, and when
            the engine fails; the limits are the old ones then
        """
        wanted = limits.limits(flavor, pids=CONF.docker.pids_limit)
        used = diagnostics.memory_used(self.stats())
        if used > wanted["Memory"]:
            raise exception.ResizeError(
                reason=f"the server uses {-(-used // units.Mi)} MiB of memory, "
                f"the flavor has {wanted['Memory'] // units.Mi}"
            )
        with self._engine(exception.ResizeError):
            before = self._client.inspect_container(self._name)["HostConfig"]
            try:
                self._client.update_container(self._name, wanted)
            except errors.DockerError:
                # One that did not answer in time may have done it.
                with contextlib.suppress(errors.DockerError):
                    self._client.update_container(
                        self._name, {name: before[name] for name in wanted}
                    )
                raise

    def set_password(self, user: str, password: str) -> None:
        """Have the image's chpasswd set a user's password.

        :raises SetAdminPasswdNotSupported: when the image has none
        :raises InstancePasswordSetFailed: when it fails, with its words, or does
            not end in time
        """
        if any(mark in user + password for mark in "\r\n\0") or ":" in user:
            raise exception.InstancePasswordSetFailed(
                instance=self._instance.uuid, reason="it has a line break or colon"
            )
        code, output = self._run(["chpasswd"], f"{user}:{password}\n".encode())
        if code in _NO_COMMAND:
            raise exception.SetAdminPasswdNotSupported(
                instance=self._instance.uuid, reason="the image has no chpasswd"
            )
        if code != 0:
            raise exception.InstancePasswordSetFailed(
                instance=self._instance.uuid, reason=output
            )

    def _run(self, command: list[str], typed: bytes) -> tuple[int | None, str]:
        """Run a program of the image as root.

        Engine calls: POST /containers/{id}/exec, POST /exec/{id}/start and GET
        /exec/{id}/json.

        :param typed: what it reads, which no process list shows
        :returns: its exit code, None when it is silent for too long or writes
            too much, and what it wrote
        """
        with translated(self._instance.uuid):
            run = self._client.create_exec(
                self._name,
                {
                    "Cmd": command,
                    "User": "0",
                    "Env": [f"PATH={_PATH}"],
                    "AttachStdin": True,
                    "AttachStdout": True,
                    "AttachStderr": True,
                },
            )
            with self._client.start_exec(run, tty=False) as stream:
                output = _converse(stream, typed)
            found = self._client.inspect_exec(run)
            # The engine closes the output a moment before it knows the code.
            for _ in range(_LOOKS):
                if not found["Running"]:
                    break
                time.sleep(1 / _LOOKS)
                found = self._client.inspect_exec(run)
        return found["ExitCode"], output.decode(errors="replace")

    def stats(self) -> dict[str, Any]:
        """What it uses, as GET /containers/{id}/stats has it."""
        with self._engine():
            return self._client.container_stats(self._name)

    def remove(self) -> None:
        """Kill and remove the container with its anonymous volumes, if it is.

        The one that is set aside for a rescue comes second: it is in use.
        """
        for name in (self._name, naming.aside_name_of(self._instance.uuid)):
            with contextlib.suppress(exception.InstanceNotFound), self._engine():
                self._client.remove_container(name, force=True, volumes=True)

    def console_output(self) -> str:
        """The last of what the first process wrote, a character for each byte.

        Nova turns a str into bytes by Latin-1 again.
        """
        with self._engine():
            # No line is shorter than its line feed, so these hold the bytes.
            output = self._client.container_logs(self._name, tail=MAX_CONSOLE_BYTES)
        # Nova counts what follows the last line feed as a line.
        return output.removesuffix(b"\n")[-MAX_CONSOLE_BYTES:].decode("latin-1")

    def _engine(
        self, failure: type[exception.NovaException] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translated(self._instance.uuid, failure)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Say so when the engine refuses what only a running server can do."""
        try:
            yield
        except errors.Conflict as error:
            raise exception.InstanceNotRunning(
                instance_id=self._instance.uuid
            ) from error


def _converse(stream: socket.socket, typed: bytes) -> bytes:
    """What a program answers to ``typed``, framed, and cut off if need be."""
    deadline = time.monotonic() + _SECONDS
    output = b""
    with contextlib.suppress(OSError):
        stream.settimeout(_SECONDS)
        stream.sendall(typed)
        stream.shutdown(socket.SHUT_WR)
        while len(output) < _MAX_OUTPUT and (chunk := stream.recv(_MAX_OUTPUT)):
            output += chunk
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
    return b"".join(frames(output))
