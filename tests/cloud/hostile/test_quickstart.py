# SPDX-License-Identifier: Apache-2.0
"""Attacks on the host of the quickstart's cloud: by its servers, and by its users."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import threading

import psutil
import pytest

from cloud import cgroup
from cloud import credentials
from cloud import images
from cloud import parts
from cloud import settings
from tests.attacks import attack
from tests.cloud import cloud
from tests.cloud.conftest import eventually
from tests.cloud.test_network import opens

GREETING = "reached\n"
CONNECT = "nc -w 3 {address} {port} </dev/null"


@pytest.fixture
def serve():
    """Starts a service that greets, and returns its port."""
    with contextlib.ExitStack() as listeners:

        def start(address="0.0.0.0"):
            listener = listeners.enter_context(socket.create_server((address, 0)))

            def greet():
                with contextlib.suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        with connection:
                            connection.sendall(GREETING.encode())

            threading.Thread(target=greet, daemon=True).start()
            return listener.getsockname()[1]

        yield start


def greeting(address, port):
    """Return what a service tells those who connect to it from the host."""
    with socket.create_connection((address, port), timeout=5) as connection:
        return connection.recv(100).decode()


def host_addresses():
    return {
        found.address
        for interface in psutil.net_if_addrs().values()
        for found in interface
        if found.family == socket.AF_INET and not found.address.startswith("127.")
    }


@attack(
    "Reach the host's services through a router",
    tried="in a server whose router has an external gateway, connects to a service "
    "that listens on all addresses of the host, at each of them",
    held_by="the quickstart's netfilter rules, which drop connections to the host that "
    "come in by a bridge of servers; security groups do not, because the tenant "
    "chooses their egress rules",
)
def test_servers_do_not_reach_the_services_of_the_host(boot, serve):
    server, port = boot(), serve()
    addresses = host_addresses()
    assert settings.PUBLIC_GATEWAY in addresses
    for address in addresses:
        assert greeting(address, port) == GREETING
        seen = server.run(CONNECT.format(address=address, port=port), check=False)
        assert seen == "", address
    # The host's own connections to servers still work.
    first = (settings.LOG / "step-server.log").read_text().split()[-1]
    assert eventually(lambda: opens(first, 22), timeout=10)


@attack(
    "Reach the host's services through the engine's bridge",
    tried="in a container on the bridge of [docker]network_mode=bridge, connects "
    "to a service that listens on all addresses of the host",
    held_by="the quickstart's netfilter rules",
)
def test_containers_on_the_bridge_do_not_reach_the_services_of_the_host(serve):
    port = serve()
    for address in host_addresses():
        seen = docker_run(CONNECT.format(address=address, port=port))
        assert seen == "", address


def docker_run(script):
    return subprocess.run(
        [
            *("docker", "run", "--rm", "--network=bridge"),
            *(images.BUSYBOX, "sh", "-c", script),
        ],
        env=os.environ | cloud.environment(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


@pytest.fixture
def forwarding():
    """Lets the host forward packets, as it does for another Docker engine."""
    switch = pathlib.Path("/proc/sys/net/ipv4/ip_forward")
    before = switch.read_text()
    switch.write_text("1")
    yield
    switch.write_text(before)


@pytest.fixture
def neighbour(forwarding):
    """A network namespace behind the host, such as another container's."""
    name, inside, outside = "nd-neighbour", "10.99.99.2", "10.99.99.1"

    def ip(words):
        subprocess.run(["ip", *words.split()], check=True)

    ip(f"netns add {name}")
    try:
        ip(f"link add {name} type veth peer name eth0 netns {name}")
        ip(f"address add {outside}/30 dev {name}")
        ip(f"link set {name} up")
        ip(f"-n {name} address add {inside}/30 dev eth0")
        ip(f"-n {name} link set eth0 up")
        ip(f"-n {name} route add default via {outside}")
        yield name, inside
    finally:
        ip(f"netns delete {name}")


@attack(
    "Reach other networks of a host that forwards",
    tried="in a server whose router has an external gateway, connects to a service in "
    "another network behind the host, which forwards packets",
    held_by="the quickstart's netfilter rules, which forward nothing for servers",
)
def test_the_host_does_not_forward_for_servers(boot, neighbour):
    name, address = neighbour
    server, port = boot(), 8080
    command = ["ip", "netns", "exec", name, "busybox", "nc", "-ll", "-p", str(port)]
    with subprocess.Popen([*command, "-e", "echo", GREETING.strip()]) as service:
        try:
            assert eventually(lambda: opens(address, port), timeout=10)
            assert greeting(address, port) == GREETING
            seen = server.run(CONNECT.format(address=address, port=port), check=False)
        finally:
            service.terminate()
    assert seen == ""


# Runs as an unprivileged user, and prints what that user could get hold of.
LOOK = r"""
import glob, json, os, socket, stat, sys

known = json.load(sys.stdin)
found = []

def look(path):
    try:
        with open(path, "rb") as file:
            content = file.read(2**20)
    except OSError:
        return
    if any(secret.encode() in content for secret in known["secrets"]):
        found.append(f"a secret in {path}")

for pattern in ("/proc/[0-9]*/cmdline", "/proc/[0-9]*/environ", "/etc/sudoers.d/*"):
    for path in glob.glob(pattern):
        look(path)
for top in known["directories"]:
    for directory, below, files in os.walk(top):
        if directory in known["skip"]:
            below.clear()
            continue
        for path in (os.path.join(directory, name) for name in below + files):
            try:
                mode = os.lstat(path).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode):
                look(path)
            if not stat.S_ISLNK(mode) and os.access(path, os.W_OK):
                found.append(f"write access to {path}")
for path in known["sockets"]:
    try:
        with socket.socket(socket.AF_UNIX, known["types"][path]) as client:
            client.connect(path)
            found.append(f"a connection to {path}")
    except OSError:
        pass
print(json.dumps(found))
"""


def unix_sockets(processes):
    """Return the types of the unix sockets with a path that processes listen at."""
    types = {}
    for process in processes:
        with contextlib.suppress(psutil.Error):
            for found in process.net_connections("unix"):
                if found.laddr:
                    types[str(found.laddr)] = int(found.type)
    return types


def processes_of_the_cloud():
    return [psutil.Process(pid) for pid in cgroup.processes() if psutil.pid_exists(pid)]


@attack(
    "Read the cloud's secrets as another user of its host",
    tried="as the user nobody, looks for the cloud's passwords and private keys in all "
    "files, command lines and environments, for files to change, and connects to all "
    "unix sockets of its processes",
    held_by="the owners and modes of the quickstart's files and directories; passwords "
    "reach programs through files, standard input or the environment, never through "
    "their arguments",
)
def test_other_users_of_the_host_get_no_secret_and_no_socket():
    types = unix_sockets(processes_of_the_cloud())
    assert any(path.endswith("docker.sock") for path in types)
    keys = [*(settings.DATA / "fernet").iterdir()]
    keys.append(settings.DATA / "rabbitmq/.erlang.cookie")
    # The second line of a private key is part of the key itself.
    private = settings.SSH_KEY.read_text().splitlines()[2]
    known = {
        "secrets": [
            *credentials.passwords().values(),
            *(key.read_text() for key in keys),
            private,
        ],
        # The virtual environment contains packages only.
        "directories": [str(settings.STATE)],
        "skip": [str(settings.VENV)],
        "sockets": [*types],
        "types": types,
    }
    found = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", LOOK],
        input=json.dumps(known),
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert json.loads(found) == []


@attack(
    "Use a port of the cloud that asks for no credentials",
    tried="lists the TCP ports that the cloud's processes listen at",
    held_by="all of them are on loopback, and belong to services that authenticate "
    "their clients; the databases of Open vSwitch and OVN have unix sockets only",
)
def test_the_cloud_listens_on_loopback_and_never_without_credentials():
    listening = {
        (process.name(), found.laddr.ip, found.laddr.port)
        for process in processes_of_the_cloud()
        for found in process.net_connections("tcp")
        if found.status == psutil.CONN_LISTEN
        # Containers and metadata proxies listen in network namespaces of their own.
        and os.stat(f"/proc/{process.pid}/ns/net").st_ino
        == os.stat("/proc/self/ns/net").st_ino
    }
    assert listening
    assert {ip for _, ip, _ in listening} <= {"127.0.0.1", "::1"}
    # nova-compute's consoles have a port of a range.
    ports = {port for name, _, port in listening if name != "nova-compute"}
    assert ports == {
        port
        for name, port in settings.PORTS.items()
        if (part := name.partition("-")[0]) not in parts.ALL or parts.has(part)
    }
