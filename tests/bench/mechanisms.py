# SPDX-License-Identifier: Apache-2.0
"""Comparison of ways to plug a server's NICs before its first process runs.

Each way boots the same container with one veth NIC. The results of each are:

- ``boot_ms``: median time until a process runs behind a NIC with an address
- ``memory_mib``: memory that a server needs in addition to its own process
- ``nic_after_restart``: whether the NIC survives a restart of the container

The ways are:

- ``runtime``: an OCI runtime starts the container in an existing namespace, as the
  driver does
- ``sandbox``: a second container holds the namespace
- ``gate``: the container's first process waits until the NIC is plugged, then execs
- ``plugin``: a network plugin of the engine creates the NIC
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import socketserver
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import psutil
from oslo_utils import uuidutils
from pyroute2 import IPRoute
from pyroute2 import netns

from docker_engine.client import DockerClient
from nova_docker.privsep import netns_admin
from nova_docker.privsep import network
from nova_docker.privsep import userns_admin

PLUGIN_SOCKET = pathlib.Path("/run/docker/plugins/nova-docker-bench.sock")
NIC = {
    "name": "eth0",
    "host_dev": "ndbench0",
    "mac": "fa:16:3e:00:00:01",
    "mtu": 1442,
    "tx_checksum": True,
    "addresses": [("192.0.2.10", 24)],
    "routes": [("0.0.0.0/0", "192.0.2.1", 0)],
}


class Way:
    """A way to boot a container with a NIC."""

    def __init__(self, client: DockerClient, image: str) -> None:
        self.client = client
        self.image = image

    def boot(self) -> list[str]:
        """Boot a server and return its containers, its own last."""
        raise NotImplementedError

    def clean(self) -> None:
        """Remove what the engine does not remove with the containers."""

    def run(self, config: dict[str, Any], **host_config: Any) -> str:
        body = {"Image": self.image, "Tty": True, "OpenStdin": True, **config}
        body["HostConfig"] = host_config
        name = f"bench-{uuidutils.generate_uuid()}"
        container = self.client.create_container(name, body)
        self.client.start_container(container)
        return container


class Runtime(Way):
    def boot(self) -> list[str]:
        self.namespace = f"nova-{uuidutils.generate_uuid()}"
        network.plug(self.namespace, "bench", [NIC])
        env = {"Env": [f"NOVA_NETNS={self.namespace}"]}
        return [self.run(env, NetworkMode="none", Runtime="nova")]

    def clean(self) -> None:
        network.unplug(self.namespace)


class Sandbox(Way):
    def boot(self) -> list[str]:
        holder = self.run({"Cmd": ["sleep", "inf"]}, NetworkMode="none")
        with plugged_into(self.client, holder):
            return [holder, self.run({}, NetworkMode=f"container:{holder}")]


class Gate(Way):
    directory = pathlib.Path("/run/nova-docker-bench")

    def boot(self) -> list[str]:
        self.directory.mkdir(exist_ok=True)
        fifo = self.directory / "gate"
        fifo.unlink(missing_ok=True)
        os.mkfifo(fifo)
        gate = ["sh", "-c", 'read -r _ < /gate && exec "$@"', "gate", "sh"]
        container = self.run(
            {"Cmd": gate}, NetworkMode="none", Binds=[f"{fifo}:/gate:ro"]
        )
        with plugged_into(self.client, container):
            fifo.write_text("go\n")
        return [container]

    def clean(self) -> None:
        (self.directory / "gate").unlink(missing_ok=True)


class Plugin(Way):
    def boot(self) -> list[str]:
        return [self.run({}, NetworkMode="bench-plugin")]


@contextlib.contextmanager
def plugged_into(client: DockerClient, container: str) -> Iterator[None]:
    """Plug the NIC into a running container's namespace before the block."""
    name = f"nova-{uuidutils.generate_uuid()}"
    pid = client.inspect_container(container)["State"]["Pid"]
    netns.attach(name, pid)
    network.plug(name, "bench", [NIC])
    yield
    netns.remove(name)


class _PluginHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        method = self.path.lstrip("/")
        answer: dict[str, Any] = {}
        if method == "Plugin.Activate":
            answer = {"Implements": ["NetworkDriver"]}
        elif method == "NetworkDriver.GetCapabilities":
            answer = {"Scope": "local"}
        elif method == "NetworkDriver.CreateEndpoint":
            answer = {"Interface": {"MacAddress": NIC["mac"]}}
        elif method == "NetworkDriver.Join":
            with IPRoute() as host:
                host.link("add", ifname="ndbench0", kind="veth", peer="ndbench1")
                host.link("set", ifname="ndbench0", state="up")
            answer = {
                "InterfaceName": {"SrcName": "ndbench1", "DstPrefix": "eth"},
                "Gateway": "192.0.2.1",
            }
        elif method == "NetworkDriver.Leave":
            with IPRoute() as host, contextlib.suppress(Exception):
                host.link("del", ifname="ndbench0")
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def address_string(self) -> str:
        return "engine"


@contextlib.contextmanager
def plugin_network(host: str) -> Iterator[None]:
    PLUGIN_SOCKET.parent.mkdir(parents=True, exist_ok=True)
    PLUGIN_SOCKET.unlink(missing_ok=True)
    server = socketserver.ThreadingUnixStreamServer(str(PLUGIN_SOCKET), _PluginHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    docker = ["docker", "--host", host, "network"]
    create = [*docker, "create", "--driver", "nova-docker-bench"]
    subprocess.run(
        [*create, "--subnet", "192.0.2.0/24", "bench-plugin"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        subprocess.run([*docker, "rm", "bench-plugin"], stdout=subprocess.DEVNULL)
        server.shutdown()
        PLUGIN_SOCKET.unlink(missing_ok=True)


def memory_mib(client: DockerClient, containers: list[str]) -> float:
    """Return the memory (PSS) that a server needs in addition to its own process."""
    total = 0
    for container in containers:
        pid = client.inspect_container(container)["State"]["Pid"]
        shim = psutil.Process(pid).parent()
        assert shim is not None
        total += shim.memory_full_info().pss
        if container is not containers[-1]:
            total += psutil.Process(pid).memory_full_info().pss
    return round(total / 2**20, 1)


def has_nic(client: DockerClient, container: str) -> bool:
    pid = client.inspect_container(container)["State"]["Pid"]
    return "eth0:" in pathlib.Path(f"/proc/{pid}/net/dev").read_text()


def measure(way: Way, rounds: int) -> dict[str, Any]:
    times = []
    for _ in range(rounds):
        begun = time.monotonic()
        containers = way.boot()
        times.append(time.monotonic() - begun)
        assert has_nic(way.client, containers[-1])
        memory = memory_mib(way.client, containers)
        way.client.restart_container(containers[-1], 0)
        kept = has_nic(way.client, containers[-1])
        for container in reversed(containers):
            way.client.remove_container(container)
        way.clean()
    return {
        "boot_ms": round(statistics.median(times) * 1000),
        "memory_mib": memory,
        "nic_after_restart": kept,
    }


def run(host: str, image: str, rounds: int) -> dict[str, Any]:
    """Compare all ways on one engine.

    :param host: the engine, which must have the OCI runtime ``nova``
    :param image: an image whose command is a shell
    """
    client = DockerClient(host)
    ways: dict[str, Callable[[DockerClient, str], Way]] = {
        "runtime": Runtime,
        "sandbox": Sandbox,
        "gate": Gate,
        "plugin": Plugin,
    }
    for context in (netns_admin, userns_admin):
        context.set_client_mode(False)
    with plugin_network(host):
        return {name: measure(way(client, image), rounds) for name, way in ways.items()}
