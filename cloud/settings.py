# SPDX-License-Identifier: Apache-2.0
"""Where the cloud keeps what, on which ports it listens, what it is called."""

from __future__ import annotations

import json
import os
import pathlib
import secrets as random
import threading
from typing import Any

SOURCE = pathlib.Path(__file__).resolve().parent.parent

STATE = pathlib.Path(
    os.environ.get("NOVA_DOCKER_CLOUD_DIR", "/var/lib/nova-docker-quickstart")
)
ETC = STATE / "etc"
LOG = STATE / "log"
DATA = STATE / "data"
RUN = STATE / "run"
VENV = STATE / "venv"
BIN = VENV / "bin"

CLOUDS_YAML = STATE / "clouds.yaml"
SSH_KEY = STATE / "quickstart.key"
SUDOERS = pathlib.Path("/etc/sudoers.d/nova-docker-quickstart")

# What services see, whatever the operator's shell has.
PATH = f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"

USER = "nova"
HOST = "docker-host"
FAKE_HOST = "fake-host"
REGION = "RegionOne"

COMPUTE_DRIVER = os.environ.get(
    "NOVA_DOCKER_CLOUD_COMPUTE_DRIVER", "nova_docker.DockerDriver"
)

# All on 127.0.0.1. The APIs are where OpenStack's documentation has them; what
# a distribution may run as well is kept off its usual port.
PORTS = {
    "keystone": 5000,
    "placement": 8778,
    "glance": 9292,
    "neutron": 9696,
    "nova-api": 8774,
    "nova-metadata": 8775,
    "nova-serialproxy": 6083,
    "ovsdb": 6640,
    "rabbitmq": 5679,
    "rabbitmq-dist": 25679,
    "epmd": 4379,
}
AUTH_URL = f"http://127.0.0.1:{PORTS['keystone']}/v3"

INTEGRATION_BRIDGE = "br-int"
PUBLIC_BRIDGE = "br-ex"
PUBLIC_CIDR = "172.24.4.0/24"
PUBLIC_GATEWAY = "172.24.4.1"
ENGINE_BRIDGE = "nova-docker0"
ENGINE_BRIDGE_CIDR = "172.24.5.1/24"
CGROUP = "nova-docker-quickstart"


class Memory:
    """A small dictionary in a file: what must be known from run to run."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def _load(self) -> dict[str, Any]:
        try:
            return json.loads(self._path.read_text())
        except FileNotFoundError:
            return {}

    def get(self, key: str, default: Any = None) -> Any:
        return self._load().get(key, default)

    def set(self, key: str, value: Any) -> None:
        with self._lock:
            values = self._load()
            values[key] = value
            temporary = self._path.with_suffix(".new")
            temporary.touch(mode=0o600)
            temporary.write_text(json.dumps(values, indent=1) + "\n")
            temporary.rename(self._path)


# What was made outside STATE (and so is removed again by a purge), which
# engine is used, and which steps need not be done again.
memory = Memory(STATE / "memory.json")

SECRETS = ("database", "rabbitmq", "admin", "demo", "service", "metadata")


def secrets() -> dict[str, str]:
    """Return the cloud's passwords, made up at the first call."""
    found = memory.get("secrets")
    if found is None:
        found = {name: random.token_hex(12) for name in SECRETS}
        memory.set("secrets", found)
    return found
