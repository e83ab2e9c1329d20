# SPDX-License-Identifier: Apache-2.0
"""One server's container on the engine."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.compute import power_state
from nova.virt.hardware import InstanceInfo
from oslo_log import log as logging
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.streams.frames import frames
from nova_docker import accounts
from nova_docker import diagnostics
from nova_docker import root_exec
from nova_docker.container import init
from nova_docker.container import isolation
from nova_docker.container import naming
from nova_docker.container import state
from nova_docker.container import volume_mode
from nova_docker.errors import translated
from nova_docker.host import cgroup

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

# The same limit as in Nova's other drivers.
MAX_CONSOLE_BYTES = 100 * 1024

# Hosts have checkpoints with this name: it must not change.
_CHECKPOINT = "suspended"
_RESTORE_SECONDS = 90

# A call on one container waits for the container's lock, and something may hold it for
# ever. A periodic task must not.
_INFO_SECONDS = 5

# A checkpoint that fails pauses the container itself, and soon ends that pause.
_PAUSE_CHECKS = 3
_PAUSE_SECONDS = 0.1

# Directories of an image's programs: its PATH may name others, or none.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_RUN_SECONDS = 30
_MAX_OUTPUT = 4096  # bytes
_EXIT_CODE_POLLS = 20  # in one second


def list_servers(client: DockerClient) -> dict[str, dict[str, Any]]:
    """Return the containers of all servers on an engine, by UUID.

    Engine call: GET /containers/json

    :raises NovaException: if the engine fails
    """
    with translated():
        listed = client.list_containers(filters=naming.SERVERS)
    return naming.by_uuid(listed)


def rebooted(client: DockerClient) -> list[str]:
    """Return the UUIDs of the servers that have ended to reboot.

    Engine call: GET /containers/json

    :raises NovaException: if the engine fails
    """
    return [
        uuid
        for uuid, item in list_servers(client).items()
        if init.is_listed_as_rebooted(item)
    ]


class Namespaces(NamedTuple):
    """The namespaces of a server, and what it has in them.

    :ivar level: of :mod:`nova_docker.container.isolation`
    :ivar in_use: whether its processes run, or are frozen
    :ivar running: whether its processes run
    :ivar volume_mode: of :mod:`nova_docker.container.volume_mode`
    """

    level: str
    in_use: bool
    running: bool
    volume_mode: str = volume_mode.DEVICE


class Guest:
    """One server's container, and what Nova does with it.

    :raises InstanceNotFound: from each method, if the engine has no such container
    :raises NovaException: from each method, if the engine fails; with its message
    """

    def __init__(self, client: DockerClient, instance: objects.Instance) -> None:
        self._client = client
        self._instance = instance
        self._name = naming.name_of(instance.uuid)

    def exists(self) -> bool:
        """Return whether the engine has the container."""
        try:
            self.info()
        except exception.InstanceNotFound:
            return False
        return True

    def info(self) -> InstanceInfo:
        """Return power state and container id, for ComputeDriver.get_info.

        Engine calls: GET /containers/{id}/json; if the container does not answer, GET
        /containers/json, which may be a moment behind, but never waits for a container
        """
        found, status, _ = self._look()
        return InstanceInfo(state=state.power_state_of(status), internal_id=found["Id"])

    def _look(self) -> tuple[dict[str, Any], str, dict[str, str]]:
        """Return the container, inspected or listed, its status and its labels."""
        with self._engine():
            try:
                found = self._client.inspect_container(
                    self._name, timeout=_INFO_SECONDS
                )
                return found, found["State"]["Status"], found["Config"]["Labels"]
            except errors.Timeout:
                found = self._listed()
                LOG.warning(
                    "Container %s does not answer; the engine lists it as %s",
                    self._name,
                    found["State"],
                    instance=self._instance,
                )
                return found, found["State"], found["Labels"]

    def _listed(self) -> dict[str, Any]:
        for found in self._list(self._name):
            return found
        raise errors.ContainerNotFound(f"No such container: {self._name}")

    def _list(self, *names: str) -> list[dict[str, Any]]:
        by_name = {"name": [f"^/{name}$" for name in names]}
        return self._client.list_containers(filters=by_name)

    def namespaces(self) -> Namespaces:
        """Return which namespaces the container has, and whether it uses them now.

        Engine calls: as :meth:`info`
        """
        found, status, labels = self._look()
        # Of a container that does not answer, only the list's older state is known.
        inspected = isinstance(found["State"], dict)
        return Namespaces(
            isolation.of_container(labels),
            in_use=found["State"]["Running"] if inspected else True,
            running=state.power_state_of(status) == power_state.RUNNING,
            volume_mode=volume_mode.of_container(labels),
        )

    def first_process(self, timeout: float | None = None) -> tuple[int, str] | None:
        """Return the host's ID of the first process, and the engine's of the container.

        Engine call: GET /containers/{id}/json

        :param timeout: seconds to wait for the engine; None for the usual
        :returns: None if the container is stopped
        """
        with self._engine():
            found = self._client.inspect_container(self._name, timeout=timeout)
        if not found["State"]["Running"]:
            return None
        return found["State"]["Pid"], found["Id"]

    def has_rebooted(self) -> bool:
        """Return whether the container has ended to reboot, and has not started yet."""
        with self._engine():
            found = self._client.inspect_container(self._name)
        current = found["State"]
        return current["Status"] == "exited" and init.has_rebooted(
            found["Config"]["Labels"], current["ExitCode"]
        )

    def create(self, config: dict[str, Any]) -> None:
        """Create the container, stopped.

        :param config: as :func:`nova_docker.container.spec.specification` returns it
        :raises InstanceExists: if there is one already
        :raises ImageNotFound: if the engine no longer has the image
        :raises InvalidInput: if the engine rejects the configuration
        """
        with self._engine():
            try:
                self._client.create_container(self._name, config)
            except errors.Conflict as error:
                raise exception.InstanceExists(name=self._instance.name) from error
            except errors.ImageNotFound as error:
                raise exception.ImageNotFound(image_id=config["Image"]) from error

    def check_files(self) -> dict[str, Any]:
        """Refuse to start the server if its files would block the engine.

        :returns: ``State`` of the container; if it is running, it must not be started
        :raises InstancePowerOnFailure: if :func:`nova_docker.accounts.check` refuses
        """
        with self._engine(exception.InstancePowerOnFailure):
            try:
                return accounts.check(self._client, self._name)
            except accounts.Unreadable as error:
                raise exception.InstancePowerOnFailure(
                    reason=f"{error}: the Docker engine would not survive reading it; "
                    "replace it with a small regular file, for example with "
                    "'openstack server rescue'"
                ) from error

    def start(self, *, checked: bool = False) -> None:
        """Run the container's command, or unpause the container.

        A container that is running already keeps running.

        :param checked: whether :meth:`check_files` has passed since it was stopped
        :raises InvalidInput: if the image does not have the command
        :raises InstancePowerOnFailure: if the command cannot run for another reason,
            or :meth:`check_files` refuses
        """
        state = {} if checked else self.check_files()
        with self._engine(exception.InstancePowerOnFailure):
            if state.get("Paused"):
                self._client.unpause_container(self._name)
            elif not state.get("Running"):
                self._client.start_container(self._name)

    def stop(self, timeout: int) -> None:
        """Send the image's stop signal, and SIGKILL after a time-out.

        :param timeout: seconds; 0 to kill at once
        :raises InstancePowerOffFailure: if the container cannot be stopped
        """
        with self._engine(exception.InstancePowerOffFailure):
            # A frozen process cannot handle the signal.
            if timeout and self._is_paused():
                self._client.unpause_container(self._name)
            self._client.stop_container(self._name, timeout)

    def pause(self) -> None:
        """Freeze the processes; calling it again has no effect.

        :raises InstanceNotRunning: if the container is stopped
        """
        with self._engine(), self._running():
            for _ in range(_PAUSE_CHECKS):
                try:
                    self._client.pause_container(self._name)
                    break
                except errors.Conflict:
                    if not self._is_paused():
                        raise
                time.sleep(_PAUSE_SECONDS)

    def unpause(self, timeout: float | None = None) -> None:
        """Thaw the processes; calling it again has no effect.

        :param timeout: seconds to wait for the engine; None for the usual
        :raises InstanceNotRunning: if the container is stopped
        """
        with self._engine():
            current = self.info().state
            if current == power_state.PAUSED:
                try:
                    self._client.unpause_container(self._name, timeout=timeout)
                except errors.Conflict:
                    # It may have ended, or have been thawed, since.
                    current = self.info().state
                    if current == power_state.PAUSED:
                        raise
                else:
                    current = power_state.RUNNING
            if current != power_state.RUNNING:
                raise self._not_running()

    def save(self) -> None:
        """Write the processes to disk and end them.

        :raises InstanceSuspendFailure: if they cannot be written; they keep running
        """
        with self._engine(exception.InstanceSuspendFailure):
            self._client.create_checkpoint(self._name, _CHECKPOINT)

    def is_saved(self) -> bool:
        """Return whether there is a checkpoint that :meth:`save` has written."""
        with self._engine():
            return _CHECKPOINT in self._client.list_checkpoints(self._name)

    def restore(self) -> None:
        """Continue the processes that :meth:`save` has written, unless they run.

        :raises InstanceResumeFailure: if they cannot be restored; the checkpoint
            remains
        :raises InstancePowerOnFailure: if :meth:`check_files` refuses
        """
        state = self.check_files()
        if state["Running"] and not state["Paused"]:
            return
        with self._engine(exception.InstanceResumeFailure):
            # Docker before 25 keeps its own copy of a checkpoint for some time, and
            # rejects the checkpoint as long as the copy exists. It collects its
            # garbage sooner when it is busy, so trying again helps.
            deadline = time.monotonic() + _RESTORE_SECONDS
            while True:
                try:
                    self._client.start_container(self._name, checkpoint=_CHECKPOINT)
                except errors.EngineError as error:
                    late = time.monotonic() > deadline
                    if late or "already exists" not in error.message:
                        raise
                    time.sleep(0.2)
                else:
                    return

    def discard_saved(self) -> None:
        """Remove the checkpoint, if there is one."""
        if self.is_saved():
            with self._engine():
                self._client.delete_checkpoint(self._name, _CHECKPOINT)

    def signal(self, signal: str) -> None:
        """Send a signal to the first process.

        :param signal: name in the engine's form, for example ``SIGQUIT``
        :raises InstanceNotRunning: if the container is stopped or paused
        """
        with self._engine(), self._running():
            # The engine would unpause it if this is the image's stop signal.
            if self._is_paused():
                raise self._not_running()
            self._client.kill_container(self._name, signal)

    def limit(self, wanted: dict[str, Any]) -> None:
        """Change the container's limits; its processes keep running.

        Engine calls: GET /containers/{id}/stats, GET /containers/{id}/json, POST
        /containers/{id}/update

        :param wanted: a flavor's limits, as :meth:`Host.limits` returns them
        :raises ResizeError: if the server uses more memory than the flavor has, or
            the engine fails; the limits stay as they were
        """
        used = diagnostics.memory_used(self.stats())
        if used > wanted["Memory"]:
            raise exception.ResizeError(
                reason=f"the server uses {-(-used // units.Mi)} MiB of memory, but the "
                f"flavor only has {wanted['Memory'] // units.Mi} MiB; free memory in "
                "the server or choose a larger flavor"
            )
        with self._engine(exception.ResizeError):
            before = self._client.inspect_container(self._name)["HostConfig"]
            try:
                self._client.update_container(self._name, wanted)
            except errors.DockerError:
                # After a time-out, the engine may have changed them all the same.
                with contextlib.suppress(errors.DockerError):
                    self._client.update_container(
                        self._name, {name: before[name] for name in wanted}
                    )
                raise

    def run(self, command: list[str], stdin: bytes) -> tuple[int | None, str]:
        """Run a program of the image as root, beside the first process.

        Engine calls: GET /containers/{id}/json, those of
        :func:`nova_docker.root_exec.start`, and GET /exec/{id}/json

        :param stdin: its input, which no process list shows
        :returns: its exit code, or None if it writes too much or does not end in
            time; and its output
        :raises InvalidInput: if too many programs are still running, or the engine
            must not read the server's files
        """
        with self._engine():
            found = self._client.inspect_container(self._name)
            if state.has_too_many_execs(found):
                raise exception.InvalidInput(
                    reason="too many commands are still running in the server; stop "
                    "and start the server to end them"
                )
            try:
                run, stream = root_exec.start(
                    self._client,
                    found,
                    {
                        "Cmd": command,
                        "Env": [f"PATH={_PATH}"],
                        "AttachStdin": True,
                        "AttachStdout": True,
                        "AttachStderr": True,
                    },
                    tty=False,
                )
            except accounts.Unreadable as error:
                raise exception.InvalidInput(reason=str(error)) from error
            with stream:
                output = _converse(stream, stdin)
            found = self._client.inspect_exec(run)
            # The engine closes the output shortly before it knows the exit code.
            for _ in range(_EXIT_CODE_POLLS):
                if not found["Running"]:
                    break
                time.sleep(1 / _EXIT_CODE_POLLS)
                found = self._client.inspect_exec(run)
        return found["ExitCode"], output.decode(errors="replace")

    def stats(self) -> dict[str, Any]:
        """Return the resources that it uses: GET /containers/{id}/stats.

        Engine call if that knows nothing of a server that runs: GET
        /containers/{id}/json
        """
        with self._engine():
            found = self._client.container_stats(self._name)
            if found.get("memory_stats"):
                return found
            pid = self._client.inspect_container(self._name)["State"]["Pid"]
        with contextlib.suppress(OSError, KeyError, ValueError):
            return {**found, **cgroup.stats(pid)}
        return found

    def remove(self) -> None:
        """Kill and remove the container and its anonymous volumes, if they exist.

        In rescue, this includes the server's own container. It is removed last,
        because the rescue container mounts its files.

        Engine calls: GET /containers/json, DELETE /containers/{id}

        :raises InstanceTerminationFailure: if the engine does not answer
        :raises EngineTimeout: if the container does not answer, within some seconds
        """
        with self._engine(exception.InstanceTerminationFailure):
            listed = self._list(self._name, naming.aside_name_of(self._instance.uuid))
        # The name of the server's own container is the longer one in rescue.
        for found in sorted(listed, key=lambda item: len(item["Names"][0])):
            # Not by its name: a call that the engine carries out late would remove the
            # server's next container.
            ref = found["Id"]
            with contextlib.suppress(exception.InstanceNotFound), self._engine():
                try:
                    self._client.remove_container(ref, timeout=_INFO_SECONDS)
                except errors.Timeout:
                    # A large disk takes longer to remove, but such a container answers.
                    self._client.inspect_container(ref, timeout=_INFO_SECONDS)
                    self._client.remove_container(ref)

    def console_output(self) -> str:
        """Return the end of the first process's output, one character per byte.

        Nova encodes the text as Latin-1, so bytes pass unchanged.
        """
        with self._engine():
            # A line has at least its line feed, so this many lines are enough.
            output = self._client.container_logs(self._name, tail=MAX_CONSOLE_BYTES)
        # Nova would count an empty line after the last line feed.
        return output.removesuffix(b"\n")[-MAX_CONSOLE_BYTES:].decode("latin-1")

    def _engine(
        self, failure: type[exception.NovaException] | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translated(self._instance.uuid, failure)

    def _is_paused(self) -> bool:
        return self.info().state == power_state.PAUSED

    def _not_running(self) -> exception.InstanceNotRunning:
        return exception.InstanceNotRunning(instance_id=self._instance.uuid)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Translate the conflict of a call that only a running container allows."""
        try:
            yield
        except errors.Conflict as error:
            raise self._not_running() from error


def _converse(stream: socket.socket, stdin: bytes) -> bytes:
    """Send a program its input and return its output, cut off if too long or late."""
    deadline = time.monotonic() + _RUN_SECONDS
    output = b""
    stream.settimeout(_RUN_SECONDS)
    # A program that has ended reads nothing more, but what it wrote is still there.
    with contextlib.suppress(OSError):
        stream.sendall(stdin)
        stream.shutdown(socket.SHUT_WR)
    with contextlib.suppress(OSError):
        while len(output) < _MAX_OUTPUT and (chunk := stream.recv(_MAX_OUTPUT)):
            output += chunk
            stream.settimeout(max(deadline - time.monotonic(), 0.001))
    return b"".join(frames(output))
