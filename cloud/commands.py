# SPDX-License-Identifier: Apache-2.0
"""Running commands, waiting, and speaking HTTP on unix sockets."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from cloud import settings


class Failed(Exception):
    """A step cannot go on; the message is for the operator."""


_step = threading.local()


def set_log(path: pathlib.Path) -> None:
    """Have this thread's commands write their output to ``path``."""
    path.write_text("")
    _step.log = path


def log() -> pathlib.Path:
    return getattr(_step, "log", settings.LOG / "quickstart.log")


def run(
    *command: str | pathlib.Path,
    env: Mapping[str, str] | None = None,
    stdin: Any = subprocess.DEVNULL,
    stdout: Any = None,
    user: str | None = None,
    check: bool = True,
) -> int:
    """Run a command with its output in the step's log.

    :param env: its whole environment; the default has nothing of the
        operator's shell
    :param user: whose rights it has, if not root's
    :returns: its exit status
    :raises Failed: when that is not 0, unless ``check`` is False
    """
    words = [str(word) for word in command]
    with log().open("ab") as output:
        output.write(f"$ {' '.join(words)}\n".encode())
        output.flush()
        status = subprocess.run(
            words,
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            env=clean_env() if env is None else env,
            stdin=stdin,
            stdout=stdout or output,
            stderr=output,
            check=False,
        ).returncode
    if check and status:
        raise Failed(f"{words[0]} ended with status {status}")
    return status


def output(*command: str | pathlib.Path, check: bool = True) -> str:
    """Run a command and return what it prints.

    :raises Failed: when its exit status is not 0, unless ``check`` is False
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        env=clean_env(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def run_python(module: str, *arguments: str) -> None:
    """Run a module of this project in the virtual environment.

    :raises Failed: with the last line that it printed
    """
    if run(*_python(module, *arguments), env=_python_env(), check=False):
        raise Failed(log().read_text().strip().splitlines()[-1])


def run_python_here(module: str, *arguments: str) -> int:
    """As :func:`run_python`, before the operator's eyes; return its exit status."""
    sys.stdout.flush()
    command = _python(module, *arguments)
    return subprocess.run(command, env=_python_env(), check=False).returncode


def _python(module: str, *arguments: str) -> list[str]:
    return [str(settings.BIN / "python"), "-m", module, *arguments]


def _python_env() -> dict[str, str]:
    return clean_env(
        PYTHONPATH=str(settings.SOURCE),
        PYTHONDONTWRITEBYTECODE="1",
        NOVA_DOCKER_CLOUD_DIR=str(settings.STATE),
    )


def clean_env(**more: str) -> dict[str, str]:
    """Return an environment that owes nothing to the operator's shell."""
    return {"PATH": settings.PATH, "HOME": "/root", "LANG": "C.UTF-8", **more}


def installer_env(**more: str) -> dict[str, str]:
    """Return the operator's environment, which says how to reach packages.

    (Proxies, PIP_* and certificates.) Less what would change what is built.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**kept, **clean_env(DEBIAN_FRONTEND="noninteractive"), **more}


def wait_until(
    ready: Callable[[], Any],
    what: str,
    *,
    timeout: float = 180,
    interval: float = 0.2,
) -> Any:
    """Call ``ready`` until it returns something true, and return that.

    :raises Failed: after ``timeout`` seconds
    """
    deadline = time.monotonic() + timeout
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {timeout:.0f} s")
        time.sleep(interval)
    return answer


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        return True
    return False


@contextlib.contextmanager
def state_lock() -> Iterator[None]:
    """Be the only quickstart on this state directory, made when it is not there.

    :raises Failed: when another one is at work
    """
    while True:
        settings.STATE.mkdir(parents=True, exist_ok=True)
        fd = os.open(settings.STATE, os.O_RDONLY | os.O_DIRECTORY)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failed("another quickstart is at work; wait for it") from None
            # A purge that has just ended removed the directory that was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(settings.STATE)):
                    yield
                    return
        finally:
            os.close(fd)


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: str | pathlib.Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
