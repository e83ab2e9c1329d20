# SPDX-License-Identifier: Apache-2.0
"""Faults of the cloud's processes: killed, frozen, or away for some time.

supervisord restarts what is killed, as a host's service manager does.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import psutil

from cloud import settings
from cloud import supervisor
from tests.cloud import services


def kill(name: str) -> int:
    """Kill a service with SIGKILL, and return its process ID."""
    pid: int = supervisor.state(name)["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()
    return pid


def kill_with_workers(name: str) -> int:
    """Kill a service and its worker processes, and return its process ID.

    Workers that outlive their parent take requests for a while, and drop them.
    """
    pid: int = supervisor.state(name)["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    return pid


def freeze(name: str, seconds: float) -> None:
    """Stop all threads of a service for some time; connections to it stay open."""
    process = psutil.Process(supervisor.state(name)["pid"])
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)


def take_away(name: str, seconds: float) -> None:
    """Stop a service for some time; its port refuses connections."""
    supervisor.stop(name)
    try:
        time.sleep(seconds)
    finally:
        services.start(name)


def shims() -> dict[str, psutil.Process]:
    """Return the shims of the cloud's own containerd, by the id of the container."""
    found = {}
    for process in _processes("containerd-shim", str(settings.RUN)):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError, IndexError):
            words = process.cmdline()
            found[words[words.index("-id") + 1]] = process
    return found


def privsep_daemons() -> dict[psutil.Process, str]:
    """Return nova-compute's privileged daemons, with the names of their contexts."""
    found = {}
    for process in _processes("privsep-helper", str(services.NOVA_CONF)):
        with contextlib.suppress(psutil.NoSuchProcess, ValueError, IndexError):
            words = process.cmdline()
            if process.name() != "sudo":
                found[process] = words[words.index("--privsep_context") + 1]
    return found


def _processes(*words: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if all(word in line for word in words):
            yield process
