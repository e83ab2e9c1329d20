# SPDX-License-Identifier: Apache-2.0
"""Random faults of the cloud's services, and of what nova-compute works with."""

from __future__ import annotations

import random
from collections.abc import Callable

from docker_engine.client import DockerClient
from nova_docker.container import naming
from tests.cloud import outages
from tests.cloud import services

AWAY = 20  # seconds


class Faults:
    """Chooses faults and injects them.

    :param engine: the cloud's engine
    :param chooser: decides which
    """

    def __init__(self, engine: DockerClient, chooser: random.Random) -> None:
        self._engine = engine
        self._random = chooser
        # How often, what it is called, and what injects it and returns what it hit
        self._all: list[tuple[int, str, Callable[[], object]]] = [
            *(
                (weight, f"kill -9 of {name}", _bound(outages.kill, name))
                for weight, name in (
                    (4, "nova-compute"),
                    (2, "dockerd"),
                    (1, "containerd"),
                    (2, "ovn-controller"),
                    (1, "ovs-vswitchd"),
                )
            ),
            (
                1,
                "kill -9 of nova-conductor",
                _bound(outages.kill_with_workers, "nova-conductor"),
            ),
            *(
                (
                    weight,
                    f"{name} away for {AWAY} s",
                    _bound(outages.take_away, name, AWAY),
                )
                for weight, name in ((2, "glance"), (1, "neutron"), (1, "placement"))
            ),
            (
                2,
                f"rabbitmq frozen for {AWAY} s",
                _bound(outages.freeze, "rabbitmq", AWAY),
            ),
            (1, "restart of dockerd", _bound(services.restart, "dockerd")),
            (2, "kill -9 of a shim", self._kill_shim),
            (2, "kill -9 of a privsep daemon", self._kill_privsep),
        ]

    def choose(self) -> tuple[str, Callable[[], object]]:
        """Return the next fault: its name, and what injects it."""
        [(_, name, inject)] = self._random.choices(
            self._all, [weight for weight, _, _ in self._all]
        )
        return name, inject

    def _kill_shim(self) -> str:
        shims = outages.shims()
        names = {
            found["Id"]: found["Names"][0].lstrip("/")
            for found in self._engine.list_containers(filters=naming.SERVERS)
            if found["Id"] in shims
        }
        if not names:
            return "no server runs"
        chosen = self._random.choice(sorted(names))
        shims[chosen].kill()
        return names[chosen]

    def _kill_privsep(self) -> str:
        daemons = outages.privsep_daemons()
        if not daemons:
            return "none runs"
        chosen = self._random.choice(sorted(daemons, key=lambda found: daemons[found]))
        chosen.kill()
        return daemons[chosen]


def _bound(inject: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: inject(*arguments)
