# SPDX-License-Identifier: Apache-2.0
"""Faults of the host and of the services: each is injected and undone, not repaired.

Whatever a fault kills is restarted by its supervisor, as on any host.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable
from collections.abc import Iterator

import psutil

from cloud import settings
from cloud import supervisor
from docker_engine.client import DockerClient
from nova_docker.container import naming
from tests.cloud import services

AWAY = 20  # seconds


class Faults:
    """Injects random faults.

    :param engine: the cloud's engine
    :param chooser: decides which
    """

    def __init__(self, engine: DockerClient, chooser: random.Random) -> None:
        self._engine = engine
        self._random = chooser
        # (how often, name, action that returns what it hit)
        self._all: list[tuple[int, str, Callable[[], str]]] = [
            (4, "kill -9 of nova-compute", lambda: kill("nova-compute")),
            (2, "kill -9 of the engine", lambda: kill("dockerd")),
            (1, "restart of the engine", lambda: restart("dockerd")),
            (1, "kill -9 of containerd", lambda: kill("containerd")),
            (2, "kill -9 of a shim", self._shim),
            (2, "kill -9 of a privsep daemon", self._privsep),
            (2, "kill -9 of ovn-controller", lambda: kill("ovn-controller")),
            (1, "kill -9 of ovs-vswitchd", lambda: kill("ovs-vswitchd")),
            (1, "kill -9 of nova-conductor", lambda: kill("nova-conductor")),
            (2, f"RabbitMQ frozen for {AWAY} s", lambda: freeze("rabbitmq")),
            (2, f"Glance away for {AWAY} s", lambda: take_away("glance")),
            (1, f"Neutron away for {AWAY} s", lambda: take_away("neutron")),
            (1, f"Placement away for {AWAY} s", lambda: take_away("placement")),
        ]

    def choose(self) -> tuple[str, Callable[[], str]]:
        """Return the next fault: its name, and what injects it."""
        [(_, name, inject)] = self._random.choices(
            self._all, [weight for weight, _, _ in self._all]
        )
        return name, inject

    def _shim(self) -> str:
        shims = {
            process.cmdline()[process.cmdline().index("-id") + 1]: process
            for process in own_shims()
        }
        servers = self._engine.list_containers(filters=naming.SERVERS)
        names = {
            found["Id"]: found["Names"][0].lstrip("/")
            for found in servers
            if found["Id"] in shims
        }
        if not names:
            return "(no server runs)"
        chosen = self._random.choice(sorted(names))
        shims[chosen].kill()
        return names[chosen]

    def _privsep(self) -> str:
        daemons = sorted(privsep_daemons(), key=lambda process: process.pid)
        if not daemons:
            return "(none runs)"
        chosen = self._random.choice(daemons)
        line = " ".join(chosen.cmdline())
        chosen.kill()
        return line.partition("--privsep_context ")[2].partition(" ")[0]


def kill(name: str) -> str:
    """Kill the processes of a service at once."""
    pid = supervisor.state(name)["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()
    return f"(process {pid})"


def restart(name: str) -> str:
    services.restart(name)
    return ""


def freeze(name: str, seconds: float = AWAY) -> str:
    """Stop all threads of a service for some time."""
    process = psutil.Process(supervisor.state(name)["pid"])
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        process.send_signal(signal.SIGCONT)
    return ""


def take_away(name: str, seconds: float = AWAY) -> str:
    """Stop a service for some time: its port refuses connections."""
    supervisor.stop(name)
    try:
        time.sleep(seconds)
    finally:
        services.start(name)
    return ""


def own_shims() -> Iterator[psutil.Process]:
    """Return the shims of the cloud's own containerd."""
    return _processes("containerd-shim", str(settings.RUN))


def privsep_daemons() -> Iterator[psutil.Process]:
    """Return nova-compute's privileged daemons."""
    for process in _processes("privsep-helper", "nova.conf"):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() != "sudo":
                yield process


def _processes(*words: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if all(word in line for word in words):
            yield process
