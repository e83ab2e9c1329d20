# SPDX-License-Identifier: Apache-2.0
"""A terminal in a server: that of its first process, or a shell's.

A server whose first process is a shell or a login shows that one's terminal, which
all viewers share. In other servers each viewer gets a shell.
"""

from __future__ import annotations

import collections
import contextlib
import pathlib
import socket
import time
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import accounts
from nova_docker import root_exec
from nova_docker.container import naming
from nova_docker.container.state import has_too_many_execs

# An image may choose the terminal of its serial console: "attach" for that of the
# first process, "shell" for a shell.
CONSOLE_LABEL = "org.openstack.nova-docker.console"

# Typing these leaves a terminal, as in the Docker CLI.
DETACH_KEYS = "ctrl-p,ctrl-q"
# A terminal replies to this with its size, in the form that console.py recognizes.
ASK_SIZE = b"\x1b[18t"

_ROWS, _COLUMNS = 24, 80  # until the viewer's terminal reports its size
_START_SECONDS = 10
_MAX_TOLD = 4096

# Programs that are meant to be used at a terminal.
_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "zsh")
_LOGINS = ("agetty", "getty", "init", "login", "systemd")

# Its first output, ASK_SIZE, proves that the image has a shell.
_SHELL = """\
printf '\\033[18t'
if command -v bash >/dev/null 2>&1; then exec bash -l; fi
exec sh -l
"""
# Some shells ignore SIGHUP.
_HANG_UP = "kill -HUP $0; sleep 1; kill -KILL $0"

# Docker's exit code for an exec whose stream has broken, although its process may run
_BROKEN = 126

_NOT_RUNNING = "The server is not running."
_TOO_MANY_EXECS = (
    "Too many commands of earlier consoles are still running in the server. Stop and "
    "start the server to end them."
)


class Unavailable(Exception):
    """There is no terminal; the message is for the viewer."""


class Terminal(Protocol):
    """A terminal, opened for one viewer.

    :ivar stream: takes input and gives output
    :ivar shared: whether other viewers see it too, and must not wait for this one
    """

    stream: socket.socket
    shared: bool

    def resize(self, rows: int, columns: int) -> None:
        """Change the size."""

    def close(self) -> None:
        """Leave a shared terminal as it is; end a shell."""


def has_interactive_process(found: Mapping[str, Any]) -> bool:
    """Return whether a container's first process is meant to be used at a terminal.

    :param found: the response of GET /containers/{id}/json
    """
    choice = found["Config"]["Labels"].get(CONSOLE_LABEL)
    if choice in ("attach", "shell"):
        return bool(choice == "attach")
    program = found["Path"].rpartition("/")[2]
    # With a script, as a file or after -c, a shell is not interactive.
    only_options = all(
        word.startswith("--") or (word.startswith("-") and "c" not in word)
        for word in found["Args"]
    )
    return program in _LOGINS or (program in _SHELLS and only_options)


def open_terminal(client: DockerClient, uuid: str) -> Terminal:
    """Open a terminal in a server.

    Engine calls: GET /containers/{id}/json, then POST /containers/{id}/attach, or
    POST /containers/{id}/exec and POST /exec/{id}/start

    :raises Unavailable: if the server is not running
    :raises DockerError: if the engine fails
    """
    name = naming.name_of(uuid)
    try:
        found = client.inspect_container(name)
        if found["State"]["Paused"]:
            raise Unavailable("The server is paused.")
        if not found["State"]["Running"]:
            # The engine would attach to the process that starts next.
            raise Unavailable(_NOT_RUNNING)
        if not has_interactive_process(found):
            if has_too_many_execs(found):
                raise Unavailable(_TOO_MANY_EXECS)
            with contextlib.suppress(_NoShell):
                return _Shell(client, name, found)
        return _FirstProcess(client, name)
    except (errors.NotFound, errors.Conflict) as error:
        raise Unavailable(_NOT_RUNNING) from error
    except accounts.Unreadable as error:
        raise Unavailable(f"No shell: {error}.") from error


class _FirstProcess:
    """The terminal of the first process, which outlives its viewers."""

    shared = True

    def __init__(self, client: DockerClient, name: str) -> None:
        self._client = client
        self._name = name
        self.stream = client.attach_container(name, detach_keys=DETACH_KEYS)

    def resize(self, rows: int, columns: int) -> None:
        self._client.resize_container(self._name, rows, columns)

    def close(self) -> None:
        self.stream.close()


class _NoShell(Exception):
    """The image has no shell."""


class _Shell:
    """A shell of root for one viewer, beside the first process.

    Opening it also ends the shells that a killed nova-compute has left behind.
    """

    shared = False
    _live: set[str] = set()  # execs of this nova-compute
    # Execs that were told to end. Once is enough: a server whose shell stays all the
    # same would collect the commands that tell it so. The oldest are forgotten.
    _told: collections.OrderedDict[str, None] = collections.OrderedDict()

    def __init__(
        self, client: DockerClient, name: str, found: Mapping[str, Any]
    ) -> None:
        """
        :param found: the response of GET /containers/{id}/json
        :raises _NoShell: if the image has no shell
        :raises Unreadable: if the engine must not read the server's files
        """
        self._client = client
        self._name = name
        self._found = found
        self._hang_up_leftovers(found.get("ExecIDs") or ())
        with contextlib.ExitStack() as on_failure:

            def created(exec_id: str) -> None:
                # Before it starts: another viewer must not take it for a leftover.
                self._live.add(exec_id)
                on_failure.callback(self._live.discard, exec_id)

            self._exec, self.stream = root_exec.start(
                client,
                found,
                {
                    "Cmd": ["/bin/sh", "-c", _SHELL],
                    "Tty": True,
                    "AttachStdin": True,
                    "AttachStdout": True,
                    "AttachStderr": True,
                    "DetachKeys": DETACH_KEYS,
                },
                tty=True,
                created=created,
            )
            on_failure.callback(self.close)
            if not self._has_started():
                raise _NoShell
            self.resize(_ROWS, _COLUMNS)
            on_failure.pop_all()

    def resize(self, rows: int, columns: int) -> None:
        self._client.resize_exec(self._exec, rows, columns)

    def close(self) -> None:
        # The engine keeps the terminal open, so the shell would live on. The stream is
        # closed last: if it breaks, the engine may take the shell for ended.
        try:
            with contextlib.suppress(errors.DockerError, OSError, accounts.Unreadable):
                self._hang_up(self._client.inspect_exec(self._exec))
        finally:
            self.stream.close()
            self._live.discard(self._exec)

    def _has_started(self) -> bool:
        deadline = time.monotonic() + _START_SECONDS
        shown = b""
        try:
            while len(shown) < len(ASK_SIZE):
                self.stream.settimeout(max(deadline - time.monotonic(), 0.001))
                chunk = self.stream.recv(len(ASK_SIZE) - len(shown))
                if not chunk:
                    break
                shown += chunk
        except OSError:
            return False
        return shown == ASK_SIZE

    def _hang_up_leftovers(self, execs: Iterable[str]) -> None:
        for found in execs:
            if found in self._live or found in self._told:
                continue
            with contextlib.suppress(errors.DockerError, OSError, accounts.Unreadable):
                state = self._client.inspect_exec(found)
                if state["ProcessConfig"]["arguments"] == ["-c", _SHELL]:
                    self._hang_up(state)

    def _hang_up(self, state: Mapping[str, Any]) -> None:
        """End a shell.

        :param state: the response of GET /exec/{id}/json
        """
        if not (state["Running"] or _is_detached(state)):
            return
        _, stream = root_exec.start(
            self._client,
            self._found,
            {
                "Cmd": ["/bin/sh", "-c", _HANG_UP, _pid_in_container(state["Pid"])],
                "AttachStdout": True,
            },
            tty=False,
        )
        stream.close()
        self._told[state["ID"]] = None
        if len(self._told) > _MAX_TOLD:
            self._told.popitem(last=False)


def _is_detached(state: Mapping[str, Any]) -> bool:
    """Return whether an exec still runs although the engine reports that it has ended.

    :param state: the response of GET /exec/{id}/json
    """
    if state["ExitCode"] != _BROKEN:
        return False
    try:
        # A process of another container may have the same id by now.
        cgroups = pathlib.Path(f"/proc/{state['Pid']}/cgroup").read_text()
    except OSError:
        return False
    return state["ContainerID"] in cgroups


def _pid_in_container(pid: int) -> str:
    """Return the id that a process of a container has in it.

    :param pid: its id on the host
    """
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return line.split()[-1]
