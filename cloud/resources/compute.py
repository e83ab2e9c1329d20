# SPDX-License-Identifier: Apache-2.0
"""Nova: flavors, key pairs, and waiting for a nova-compute."""

from __future__ import annotations

from typing import Any

from cloud import credentials
from cloud import parts
from cloud import settings
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.probes import wait_until
from cloud.resources.broker import consumes
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create

FLAVORS: tuple[dict[str, Any], ...] = (
    {"name": "docker.tiny", "vcpus": 1, "ram": 64, "disk": 1},
    {"name": "docker.small", "vcpus": 1, "ram": 512, "disk": 5},
)


GVISOR_FLAVOR: dict[str, Any] = {
    "name": "docker.small.gvisor",
    "vcpus": 1,
    "ram": 512,
    "disk": 5,
}
GVISOR_SPECS = {
    "docker:isolation": "gvisor",
    "trait:CUSTOM_DOCKER_ISOLATION_GVISOR": "required",
}


def create_flavors() -> None:
    """Create the flavors, and the key pair of both users."""
    public_key = settings.SSH_KEY.with_suffix(".key.pub").read_text()
    for user in credentials.USERS:
        compute = connect(user).compute
        if user == "admin":
            for flavor in FLAVORS:
                find_or_create(compute.find_flavor, compute.create_flavor, **flavor)
            if parts.has("gvisor"):
                found = find_or_create(
                    compute.find_flavor, compute.create_flavor, **GVISOR_FLAVOR
                )
                compute.create_flavor_extra_specs(found, GVISOR_SPECS)
        find_or_create(
            compute.find_keypair,
            compute.create_keypair,
            "quickstart",
            public_key=public_key,
        )


def wait_until_ready() -> None:
    """Wait until nova-compute accepts servers."""
    wait_for_host(settings.HOST, "nova-compute")


def wait_for_host(host: str, service: str) -> None:
    """Wait until the nova-compute of ``host`` accepts servers.

    :param service: its name in :mod:`cloud.services`
    :raises QuickstartError: when it keeps exiting
    """
    log = settings.LOG / f"{service}.log"

    def ready() -> bool:
        if supervisor.state(service)["statename"] == "FATAL":
            raise QuickstartError(f"{service} keeps exiting; see {log}")
        return consumes(f"compute.{host}") and _is_up(host)

    wait_until(ready, f"{service} is not ready; see {log}", interval=0.5)


def _is_up(host: str) -> bool:
    """Tell whether Nova considers ``host`` up; after a restart, it is down at first.

    One that an operator has forced down stays so, and is not waited for.
    """
    services = connect().compute.services(binary="nova-compute", host=host)
    return any(s.state == "up" or s.is_forced_down for s in services)
