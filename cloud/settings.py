# SPDX-License-Identifier: Apache-2.0
"""Constants: the cloud's paths, ports, addresses and names."""

from __future__ import annotations

import os
import pathlib

SOURCE = pathlib.Path(__file__).resolve().parent.parent

STATE = pathlib.Path(
    os.environ.get("NOVA_DOCKER_CLOUD_DIR", "/var/lib/nova-docker-quickstart")
)
ETC = STATE / "etc"
LOG = STATE / "log"
DATA = STATE / "data"
RUN = STATE / "run"
VOLUMES = DATA / "volumes"
VENV = STATE / "venv"
BIN = VENV / "bin"

CLOUDS_YAML = STATE / "clouds.yaml"
SSH_KEY = STATE / "quickstart.key"
SUDOERS = pathlib.Path("/etc/sudoers.d/nova-docker-quickstart")

# The PATH of the services, whatever the operator's shell has.
PATH = f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin"

USER = "nova"
HOST = "docker-host"
FAKE_HOST = "fake-host"
REGION = "RegionOne"

COMPUTE_DRIVER = os.environ.get(
    "NOVA_DOCKER_CLOUD_COMPUTE_DRIVER", "nova_docker.DockerDriver"
)

# All on 127.0.0.1. The APIs use OpenStack's default ports. RabbitMQ and epmd do not
# use theirs, because the machine may run its own.
PORTS = {
    "keystone": 5000,
    "placement": 8778,
    "glance": 9292,
    "neutron": 9696,
    "cinder": 8776,
    "nova-api": 8774,
    "nova-metadata": 8775,
    "nova-serialproxy": 6083,
    "heat-api": 8004,
    "horizon": 8080,
    "rabbitmq": 5679,
    "rabbitmq-dist": 25679,
    "epmd": 4379,
}
AUTH_URL = f"http://127.0.0.1:{PORTS['keystone']}/v3"
HORIZON_URL = f"http://127.0.0.1:{PORTS['horizon']}/"

INTEGRATION_BRIDGE = "br-int"
PUBLIC_BRIDGE = "br-ex"
PUBLIC_CIDR = "172.24.4.0/24"
PUBLIC_GATEWAY = "172.24.4.1"
TUNNEL_BRIDGE = "br-tunnel"
# First three numbers of the addresses in the networks of the hosts that `up --hosts N`
# adds: to the control services, and for tunnels.
CONTROL_PREFIX = "172.24.6"
TUNNEL_PREFIX = "172.24.7"
# Those that the hosts connect to
CONTROL_SERVICES = (
    *("keystone", "placement", "glance", "neutron", "cinder", "nova-api"),
    *("nova-metadata", "rabbitmq"),
)
# On the first of these networks. 22 may be the machine's own.
SSH_PORT = 2222
HOSTS_BRIDGE = "nd-hosts"
ENGINE_BRIDGE = "nova-docker0"
ENGINE_BRIDGE_CIDR = "172.24.5.1/24"
# The table in netfilter.
FIREWALL = "nova-docker-quickstart"
HOSTS_FIREWALL = "nova-docker-quickstart-hosts"
CGROUP = "nova-docker-quickstart"
