# SPDX-License-Identifier: Apache-2.0
"""Running other programs, with their output in the log of the current step."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from cloud import settings
from cloud.errors import QuickstartError

_step = threading.local()


def set_log(path: pathlib.Path) -> None:
    """Send the output of the commands that this thread runs to ``path``."""
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

    :param env: the complete environment; the default is :func:`clean_env`
    :param user: the user to run as, root by default
    :returns: the exit status
    :raises QuickstartError: when that is not 0, unless ``check`` is False
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
        said = log().read_text(errors="replace").strip().splitlines()[-1]
        raise QuickstartError(f"{words[0]} failed with exit status {status}: {said}")
    return status


def output(*command: str | pathlib.Path, stdin: str = "", check: bool = True) -> str:
    """Run a command and return its standard output.

    :param stdin: its standard input

    :raises QuickstartError: when its exit status is not 0, unless ``check`` is False
    """
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        env=clean_env(),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise QuickstartError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def run_python(module: str, *arguments: str) -> None:
    """Run a module of this checkout in the virtual environment.

    :raises QuickstartError: with the last line of its output, when it fails
    """
    if run(*_python(module, *arguments), env=_python_env(), check=False):
        raise QuickstartError(log().read_text().strip().splitlines()[-1])


def run_python_in_terminal(module: str, *arguments: str) -> int:
    """Like :func:`run_python`, but with the output on the operator's terminal.

    :returns: the exit status
    """
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
    """Return an environment with nothing from the operator's shell."""
    return {"PATH": settings.PATH, "HOME": "/root", "LANG": "C.UTF-8", **more}


def installer_env(**more: str) -> dict[str, str]:
    """Return an environment for apt and pip.

    It keeps the operator's variables, which may be needed to reach a package
    repository (proxies, ``PIP_*``, certificates), except those of Python.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return {**kept, **clean_env(DEBIAN_FRONTEND="noninteractive"), **more}
