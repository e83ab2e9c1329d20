# SPDX-License-Identifier: Apache-2.0
"""A terminal in a server: of its first process, or a shell of one's own."""

from __future__ import annotations

import contextlib
import pathlib
import socket
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any
from typing import Protocol

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import naming

# Typed, it leaves a terminal; the Docker CLI's own.
DETACH_KEYS = "ctrl-p,ctrl-q"
# A terminal answers it with its size, in the same form as console.py takes.
ASK_SIZE = b"\x1b[18t"

_ROWS, _COLUMNS = 24, 80  # until the viewer tells
_SECONDS = 10  # for a shell to start
_OFF = "The server does not run."

# What comes first out of a shell tells that there is one.
_SHELL = """\
printf '\\033[18t'
if command -v bash >/dev/null 2>&1; then exec bash -l; fi
exec sh -l
"""
# A shell ends when it is hung up, unless the image's does not.
_HANG_UP = "kill -HUP $0; sleep 1; kill -KILL $0"


# An image may say which terminal its serial console shows: "attach" or "shell".
CONSOLE_LABEL = "org.openstack.nova-docker.console"

# First processes with whose terminal one can work.
_SHELLS = ("ash", "bash", "dash", "fish", "ksh", "sh", "zsh")
_LOGINS = ("agetty", "getty", "init", "login", "systemd")


class Unavailable(Exception):
    """There is no terminal; the message is for who wanted it."""


class Terminal(Protocol):
    """:ivar stream: what is typed, and what is shown
    :ivar shared: whether others see it too, who must not wait for this viewer
    """

    stream: socket.socket
    shared: bool

    def resize(self, rows: int, columns: int) -> None:
        """Give it the size of its viewer's."""

    def close(self) -> None:
        """Leave it as it was found."""


def has_interactive_process(found: Mapping[str, Any]) -> bool:
    """Whether one can work at the terminal of a container's first process.

    :param found: what GET /containers/{id}/json answered
    """
    wish = found["Config"]["Labels"].get(CONSOLE_LABEL)
    if wish in ("attach", "shell"):
        return bool(wish == "attach")
    program = found["Path"].rpartition("/")[2]
    # A shell that has a script does what that says.
    options = all(
        word.startswith("--") or (word.startswith("-") and "c" not in word)
        for word in found["Args"]
    )
    return program in _LOGINS or (program in _SHELLS and options)


def open_terminal(client: DockerClient, uuid: str) -> Terminal:
    """A terminal in a server.

    Engine calls: GET /containers/{id}/json, then POST /containers/{id}/attach, or
    POST /containers/{id}/exec and POST /exec/{id}/start.

    :raises Unavailable: when the server does not run
    :raises DockerError: when the engine fails
    """
    name = naming.name_of(uuid)
    try:
        found = client.inspect_container(name)
        if found["State"]["Paused"]:
            raise Unavailable("The server is paused.")
        if not found["State"]["Running"]:
            # To its first process the engine would connect when it starts.
            raise Unavailable(_OFF)
        if not has_interactive_process(found):
            with contextlib.suppress(_NoShell):
                return _Shell(client, name, found.get("ExecIDs") or ())
        return _FirstProcess(client, name)
    except (errors.NotFound, errors.Conflict) as error:
        raise Unavailable(_OFF) from error


class _FirstProcess:
    """The terminal that the server was started with: it outlives its viewers."""

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
    """The image has none."""


class _Shell:
    """A shell of root's, beside the first process, for one viewer.

    Another one after it ends those that a nova-compute has left that was killed.
    """

    shared = False
    _live: set[str] = set()  # of this nova-compute

    def __init__(self, client: DockerClient, name: str, others: Iterable[str]) -> None:
        """:param others: ids of the container's execs"""
        self._client = client
        self._name = name
        for left in set(others) - self._live:
            with contextlib.suppress(errors.DockerError, OSError):
                state = client.inspect_exec(left)
                if state["ProcessConfig"]["arguments"] == ["-c", _SHELL]:
                    self._hang_up(state)
        self._exec = client.create_exec(
            name,
            {
                "Cmd": ["/bin/sh", "-c", _SHELL],
                "User": "0",
                "Tty": True,
                "AttachStdin": True,
                "AttachStdout": True,
                "AttachStderr": True,
                "DetachKeys": DETACH_KEYS,
            },
        )
        self._live.add(self._exec)
        self.stream = client.start_exec(self._exec, tty=True)
        try:
            if not self._has_begun():
                raise _NoShell
            self.resize(_ROWS, _COLUMNS)
        except BaseException:
            self.close()
            raise

    def _has_begun(self) -> bool:
        self.stream.settimeout(_SECONDS)
        shown = b""
        try:
            while len(shown) < len(ASK_SIZE):
                chunk = self.stream.recv(len(ASK_SIZE) - len(shown))
                if not chunk:
                    break
                shown += chunk
        except OSError:
            return False
        return shown == ASK_SIZE

    def resize(self, rows: int, columns: int) -> None:
        self._client.resize_exec(self._exec, rows, columns)

    def close(self) -> None:
        self.stream.close()
        # It would go on without a viewer: the engine keeps its terminal open.
        with contextlib.suppress(errors.DockerError, OSError):
            self._hang_up(self._client.inspect_exec(self._exec))
        self._live.discard(self._exec)

    def _hang_up(self, state: dict[str, Any]) -> None:
        if not state["Running"]:
            return
        run = self._client.create_exec(
            self._name,
            {
                "Cmd": ["/bin/sh", "-c", _HANG_UP, _pid_in_container(state["Pid"])],
                "User": "0",
                "AttachStdout": True,
            },
        )
        self._client.start_exec(run, tty=False).close()


def _pid_in_container(pid: int) -> str:
    """What a process of a container calls itself.

    :param pid: what the host calls it
    """
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("NSpid:")]
    return line.split()[-1]
