# SPDX-License-Identifier: Apache-2.0
"""Programs that privileged operations run, with a limit of time."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import shutil
import signal
import subprocess
from collections.abc import Collection
from collections.abc import Iterator
from typing import NamedTuple

# The PATH of the daemon may lack it.
_SBIN = ("/usr/sbin", "/sbin")
_MAX_OUTPUT = 1000  # bytes


class Ended(NamedTuple):
    """A program that has ended.

    :ivar code: which it has exited with
    :ivar said: the beginning of what it has written
    """

    code: int
    said: str


def run(
    program: str,
    *arguments: str | pathlib.Path,
    seconds: float,
    accepted: Collection[int] = (0,),
) -> Ended:
    """Run a program, and kill it with its children when the time is over.

    :param accepted: exit codes with which it has not failed
    :raises OSError: if it fails, with the beginning of its output
    """
    with _output() as output:
        process = subprocess.Popen(
            [_path_of(program), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"LC_ALL": "C"},
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            # The kernel may keep it until the storage answers: it is not waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            raise OSError(
                errno.ETIMEDOUT, f"{program} has not ended after {seconds:g} s"
            ) from None
        said = os.pread(output, _MAX_OUTPUT, 0).decode(errors="replace").strip()
        if code not in accepted:
            raise OSError(errno.EIO, said or f"{program} has failed with code {code}")
        return Ended(code, said)


def _path_of(program: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SBIN])
    found = shutil.which(program, path=path)
    if not found:
        raise OSError(errno.ENOENT, f"the host lacks the program {program}")
    return found


@contextlib.contextmanager
def _output() -> Iterator[int]:
    """Open a file in memory, which, unlike a pipe, can be read while others have it."""
    fd = os.memfd_create("output")
    try:
        yield fd
    finally:
        os.close(fd)
