# SPDX-License-Identifier: Apache-2.0
"""The Docker engine: the one that runs, when it suits, else Debian's as ours."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import shutil
import urllib.parse
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from cloud import commands
from cloud import settings
from cloud.settings import DATA
from cloud.settings import RUN
from cloud.settings import memory

USUAL_SOCKET = pathlib.Path("/var/run/docker.sock")
OWN_SOCKET = RUN / "docker/docker.sock"
PIDFILE = RUN / "docker/docker.pid"

SERVER_LABEL = "org.openstack.nova.uuid"


class EngineError(Exception):
    """The engine refused."""


def choose() -> None:
    """Decide once which engine the cloud uses.

    An engine that runs is taken when it lists the OCI runtime of this driver:
    without it nova-compute would refuse it, and adding one needs a restart,
    which would stop the operator's containers.
    """
    if memory.get("engine") is None:
        suits = answers(USUAL_SOCKET) and "nova" in info(USUAL_SOCKET)["Runtimes"]
        memory.set("engine", str(USUAL_SOCKET if suits else OWN_SOCKET))


def socket() -> pathlib.Path:
    return pathlib.Path(memory.get("engine", OWN_SOCKET))


def host() -> str:
    return f"unix://{socket()}"


def is_foreign() -> bool:
    """Tell whether the engine is one that the quickstart did not start."""
    return socket() != OWN_SOCKET


def command() -> str:
    """Return how the cloud's own engine is started.

    It does not touch the host's netfilter rules: servers are reached through
    Neutron. Its bridge is there for ``[docker] network_mode = bridge``.
    """
    options = {
        "host": f"unix://{OWN_SOCKET}",
        "group": "docker",
        "config-file": f"{settings.ETC}/dockerd.json",
        "containerd": f"{RUN}/containerd/containerd.sock",
        "data-root": f"{DATA}/docker",
        "exec-root": f"{RUN}/docker/exec",
        "pidfile": f"{PIDFILE}",
        "bridge": settings.ENGINE_BRIDGE,
        "cgroup-parent": f"/{settings.CGROUP}",
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "iptables": "false",
        "ip-forward": "false",
        "ip-masq": "false",
        "userland-proxy": "false",
        "add-runtime": f"nova={settings.BIN}/nova-docker-runtime",
    }
    dockerd = shutil.which("dockerd", path=settings.PATH) or "/usr/sbin/dockerd"
    return " ".join([dockerd, *(f"--{k}={v}" for k, v in options.items())])


def prepare() -> None:
    """Make the engine's bridge; take away what a power cut left."""
    PIDFILE.unlink(missing_ok=True)
    bridge = settings.ENGINE_BRIDGE
    if not pathlib.Path("/sys/class/net", bridge).exists():
        memory.set(f"made_{bridge}", True)
        commands.run("ip", "link", "add", bridge, "type", "bridge")
    commands.run("ip", "address", "replace", settings.ENGINE_BRIDGE_CIDR, "dev", bridge)
    commands.run("ip", "link", "set", bridge, "up")


def answers(path: pathlib.Path) -> bool:
    try:
        with request("GET", "/_ping", path=path):
            return True
    except (OSError, http.client.HTTPException, EngineError):
        return False


def info(path: pathlib.Path) -> dict[str, Any]:
    with request("GET", "/info", path=path) as response:
        return json.load(response)


@contextlib.contextmanager
def request(
    method: str,
    url: str,
    *,
    query: dict[str, Any] | None = None,
    body: BinaryIO | None = None,
    path: pathlib.Path | None = None,
) -> Iterator[http.client.HTTPResponse]:
    """Call the engine and give its answer to read.

    :raises EngineError: with the engine's message, for a status of 400 or more
    """
    connection = commands.UnixConnection(path or socket(), timeout=300)
    with contextlib.closing(connection):
        if query:
            url += "?" + urllib.parse.urlencode(query)
        connection.request(
            method,
            "/v1.41" + url if url != "/_ping" else url,
            body,
            {"Content-Type": "application/x-tar"},
            encode_chunked=body is not None,
        )
        response = connection.getresponse()
        if response.status >= 400:
            raise EngineError(response.read().decode())
        yield response


def import_image(tree: BinaryIO, changes: list[str], name: str) -> None:
    """Make an image of one layer from a tar archive.

    :param changes: lines of a Dockerfile, for its configuration
    """
    repository, _, tag = name.rpartition(":")
    query = {
        "fromSrc": "-",
        "repo": repository,
        "tag": tag,
        "changes": "\n".join(changes),
    }
    with request("POST", "/images/create", query=query, body=tree) as response:
        messages = [json.loads(line) for line in response]
    for message in messages:
        if "error" in message:
            raise EngineError(message["error"])


def has_image(name: str) -> bool:
    try:
        with request("GET", f"/images/{name}/json"):
            return True
    except EngineError:
        return False


def remove_image(image: str) -> None:
    with (
        contextlib.suppress(EngineError, OSError),
        request("DELETE", f"/images/{image}"),
    ):
        pass


def servers() -> dict[str, str]:
    """Return the containers that are Nova's servers, id by uuid."""
    query = {"all": "true", "filters": json.dumps({"label": [SERVER_LABEL]})}
    with request("GET", "/containers/json", query=query) as response:
        return {c["Labels"][SERVER_LABEL]: c["Id"] for c in json.load(response)}


def servers_on_disk() -> set[str]:
    """Return the uuids of servers in the own engine's data; it need not run."""
    files = (DATA / "docker/containers").glob("*/config.v2.json")
    labels = [json.loads(path.read_text())["Config"]["Labels"] for path in files]
    return {each[SERVER_LABEL] for each in labels if each and SERVER_LABEL in each}


def stop(containers: list[str]) -> None:
    """Stop containers all at once, with little time to end by themselves."""

    def stop_one(container: str) -> None:
        url = f"/containers/{container}/stop"
        with (
            contextlib.suppress(EngineError),
            request("POST", url, query={"t": 2}),
        ):
            pass

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(stop_one, containers))


def remove(container: str) -> None:
    query = {"force": "true", "v": "true"}
    url = f"/containers/{container}"
    with (
        contextlib.suppress(EngineError, OSError),
        request("DELETE", url, query=query),
    ):
        pass
