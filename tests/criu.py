# SPDX-License-Identifier: Apache-2.0
"""A newer CRIU than Debian 12's, which fails on newer kernels."""

from __future__ import annotations

import pathlib
import shutil
import subprocess

import pytest

from docker_engine.api.checkpoints import restores
from tests.engine import Engine

SUITE = "trixie"
MIRROR = "http://deb.debian.org/debian"

_WRAPPER = """#!/bin/sh
exec {tree}/lib64/ld-linux-x86-64.so.2 \\
    --library-path {tree}/usr/lib/x86_64-linux-gnu {tree}/usr/sbin/criu "$@"
"""


def tree(directory: pathlib.Path) -> pathlib.Path:
    """Return a Debian tree with CRIU below ``directory``; create it if needed."""
    made = directory / SUITE
    if not made.exists():
        new = directory / "new"
        shutil.rmtree(new, ignore_errors=True)
        subprocess.run(
            [
                "debootstrap",
                "--variant=minbase",
                "--include=criu",
                SUITE,
                str(new),
                MIRROR,
            ],
            check=True,
            capture_output=True,
        )
        new.rename(made)
    return made


def skip_if_nothing_is_restored(engine: Engine) -> None:
    """Skip a test if the engine cannot restore checkpoints, with or without CRIU."""
    version = engine.client.info()["ServerVersion"]
    if not restores(version):
        pytest.skip(f"Docker {version} cannot restore checkpoints")


def install(tree: pathlib.Path, programs: pathlib.Path) -> pathlib.Path:
    """Install a ``criu`` wrapper in a directory of programs, and return its path."""
    program = programs / "criu"
    program.write_text(_WRAPPER.format(tree=tree))
    program.chmod(0o755)
    return program
