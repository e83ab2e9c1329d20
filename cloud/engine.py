# SPDX-License-Identifier: Apache-2.0
"""The Docker engine that the cloud uses, and calls of its API.

This is the engine that the machine runs already, if it has the OCI runtime of this
driver, and otherwise one that the quickstart starts.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import urllib.parse
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import BinaryIO

from cloud import commands
from cloud import parts
from cloud import settings
from cloud.probes import wait_until
from cloud.settings import DATA
from cloud.settings import RUN
from cloud.state import state
from cloud.unix_http import UnixHTTPConnection

USUAL_SOCKET = pathlib.Path("/var/run/docker.sock")
OWN_SOCKET = RUN / "docker/docker.sock"
PIDFILE = RUN / "docker/docker.pid"

GVISOR_RUNTIME = "nova-gvisor"

SERVER_LABEL = "org.openstack.nova.uuid"


class EngineError(Exception):
    """An error response of the engine."""


def choose() -> None:
    """Decide which engine the cloud uses, once.

    A running engine is used only if it has the OCI runtime of this driver.
    nova-compute does not start without that runtime, and to add it the engine must
    be restarted, which would stop the operator's containers.
    """
    if state.get("engine") is None:
        suits = answers(USUAL_SOCKET) and "nova" in info(USUAL_SOCKET)["Runtimes"]
        state.set("engine", str(USUAL_SOCKET if suits else OWN_SOCKET))


def socket() -> pathlib.Path:
    return pathlib.Path(state.get("engine", OWN_SOCKET))


def host() -> str:
    return f"unix://{socket()}"


def is_foreign() -> bool:
    """Tell whether the cloud uses an engine that the quickstart did not start."""
    return socket() != OWN_SOCKET


def command(
    data: pathlib.Path = DATA,
    run: pathlib.Path = RUN,
    bridge: str = settings.ENGINE_BRIDGE,
    cgroup: str = settings.CGROUP,
) -> str:
    """Return the command line of an engine that the quickstart starts.

    The engine leaves the host's netfilter rules alone, because Neutron connects the
    servers.

    :param data: directory above that of its images and containers
    :param run: directory above that of its socket
    :param bridge: for ``[docker] network_mode = bridge``, or "none"
    :param cgroup: the control group of its servers
    """
    options = {
        "host": f"unix://{run}/docker/docker.sock",
        "group": "docker",
        "config-file": f"{settings.ETC}/dockerd.json",
        "containerd": f"{run}/containerd/containerd.sock",
        "data-root": f"{data}/docker",
        "exec-root": f"{run}/docker/exec",
        "pidfile": f"{run}/docker/docker.pid",
        "bridge": bridge,
        "cgroup-parent": f"/{cgroup}",
        "exec-opt": "native.cgroupdriver=cgroupfs",
        "iptables": "false",
        "ip-forward": "false",
        "ip-masq": "false",
        "userland-proxy": "false",
    }
    runtimes = {"nova": "nova-docker-runtime"}
    if parts.has("gvisor"):
        runtimes[GVISOR_RUNTIME] = "nova-docker-gvisor"
    dockerd = shutil.which("dockerd", path=settings.PATH) or "/usr/sbin/dockerd"
    return " ".join(
        [
            dockerd,
            *(f"--{k}={v}" for k, v in options.items()),
            *(f"--add-runtime={k}={settings.BIN}/{v}" for k, v in runtimes.items()),
        ]
    )


def knows(runtime: str) -> bool:
    """Tell whether the engine, which runs, has an OCI runtime."""
    return runtime in info(socket())["Runtimes"]


def prepare() -> None:
    """Create the engine's bridge, and remove the PID file that a power cut left."""
    PIDFILE.unlink(missing_ok=True)
    bridge = settings.ENGINE_BRIDGE
    if not pathlib.Path("/sys/class/net", bridge).exists():
        state.set(f"made_{bridge}", True)
        commands.run("ip", "link", "add", bridge, "type", "bridge")
    commands.run("ip", "address", "replace", settings.ENGINE_BRIDGE_CIDR, "dev", bridge)
    commands.run("ip", "link", "set", bridge, "up")


def keep_servers() -> None:
    """Make an engine that runs without ``live-restore`` keep its servers.

    The configuration, which is written already, sets it. An engine that is restarted
    for that would stop the servers once more.
    """
    if answers(OWN_SOCKET) and not info(OWN_SOCKET)["LiveRestoreEnabled"]:
        os.kill(int(PIDFILE.read_text()), signal.SIGHUP)
        wait_until(
            lambda: info(OWN_SOCKET)["LiveRestoreEnabled"],
            "the engine does not read its configuration again",
            timeout=30,
        )


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
    """Call the Engine API, and give the response to the block.

    :param body: a tar archive
    :param path: the engine's socket, if it is not the one in use
    :raises EngineError: with the engine's message, when the status is 400 or higher
    """
    connection = UnixHTTPConnection(path or socket(), timeout=300)
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


def import_image(tree: BinaryIO, changes: Sequence[str], name: str) -> None:
    """Import a tar archive as an image with one layer: POST /images/create.

    :param changes: Dockerfile instructions that set the image's configuration
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


def servers(path: pathlib.Path | None = None) -> dict[str, str]:
    """Return the ids of the containers of servers, by the servers' UUIDs.

    :param path: as for :func:`request`
    """
    query = {"all": "true", "filters": json.dumps({"label": [SERVER_LABEL]})}
    with request("GET", "/containers/json", query=query, path=path) as response:
        return {c["Labels"][SERVER_LABEL]: c["Id"] for c in json.load(response)}


def servers_on_disk() -> set[str]:
    """Return the UUIDs of the servers in the own engine's data directory."""
    files = (DATA / "docker/containers").glob("*/config.v2.json")
    labels = [json.loads(path.read_text())["Config"]["Labels"] for path in files]
    return {each[SERVER_LABEL] for each in labels if each and SERVER_LABEL in each}


def stop(containers: list[str], path: pathlib.Path | None = None) -> None:
    """Stop containers at the same time, with 2 s to end before they are killed.

    :param path: as for :func:`request`
    """

    def stop_one(container: str) -> None:
        url = f"/containers/{container}/stop"
        with (
            contextlib.suppress(EngineError),
            request("POST", url, query={"t": 2}, path=path),
        ):
            pass

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(stop_one, containers))


def stop_all(path: pathlib.Path) -> None:
    """Stop all servers of an engine, if it answers.

    :param path: as for :func:`request`
    """
    if answers(path):
        stop(list(servers(path).values()), path)


def remove(container: str) -> None:
    query = {"force": "true", "v": "true"}
    url = f"/containers/{container}"
    with (
        contextlib.suppress(EngineError, OSError),
        request("DELETE", url, query=query),
    ):
        pass
