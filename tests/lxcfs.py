# SPDX-License-Identifier: Apache-2.0
"""A private lxcfs, for tests."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time

START_TIMEOUT = 20  # seconds
MOST_BYTES = 128 << 20


class Lxcfs:
    """A private lxcfs, which tests start, kill and start again.

    :ivar point: where it is mounted
    :ivar process: the one that was started last
    """

    def __init__(self, directory: pathlib.Path) -> None:
        if shutil.which("lxcfs") is None:
            raise RuntimeError("lxcfs is not installed; ./run_tests.sh installs it")
        self._directory = directory
        self.point = directory / "point"
        self.point.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with less memory than the documentation recommends."""
        limited = ["prlimit", f"--as={MOST_BYTES}", "lxcfs"]
        options = ["--foreground", "--enable-loadavg", "--enable-cfs"]
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*limited, *options, f"--pidfile={self._directory}/pid", self.point],
                stdout=log,
                stderr=log,
                env=os.environ | {"MALLOC_ARENA_MAX": "1"},
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not (self.point / "proc/uptime").exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._directory / "log").read_text()[-2000:])
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once; its mount stays, and does not answer."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Start another one after a kill, as its service does."""
        self.kill()
        self.unmount()
        self.start()

    def unmount(self) -> None:
        subprocess.run(["umount", "--lazy", self.point], check=False)
