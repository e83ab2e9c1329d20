# SPDX-License-Identifier: Apache-2.0
"""Starting, stopping and configuring the services of the cloud."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
from collections.abc import Iterator

import psutil
from pyroute2 import netns

from cloud import cgroup
from cloud import down
from cloud import engine
from cloud import services
from cloud import settings
from cloud import steps
from cloud import supervisor
from cloud import volumes
from nova_docker.privsep import network
from nova_docker.privsep import userns

NOVA_CONF = settings.ETC / "nova/nova.conf"


def start(name: str) -> None:
    """Start a service, and wait until it is ready."""
    if name == "nova-compute":
        # This waits until it is ready: a server created while nova-compute starts
        # may look like one whose boot a restart has interrupted.
        steps.start_compute()
        return
    [service] = [each for each in services.services() if each.name == name]
    supervisor.start(service)


def restart(name: str) -> None:
    """Restart a service, and wait until it is ready."""
    supervisor.stop(name)
    start(name)


@contextlib.contextmanager
def configured(path: pathlib.Path, old: str, new: str, *names: str) -> Iterator[None]:
    """Change a configuration file during the block.

    The services ``names`` are restarted when the block begins and when it ends.
    """
    before = path.read_text()
    assert old in before
    path.write_text(before.replace(old, new, 1))
    try:
        for name in names:
            restart(name)
        yield
    finally:
        path.write_text(before)
        for name in names:
            restart(name)


def _in_container(process: psutil.Process) -> bool:
    """Tell whether a process of the cloud's control group is a server's."""
    groups = pathlib.Path(f"/proc/{process.pid}/cgroup").read_text()
    return f"/{settings.CGROUP}/services" not in groups


def kill(name: str) -> None:
    """Kill a service, and wait until supervisord has started it again."""
    process = psutil.Process(supervisor.state(name)["pid"])
    process.kill()
    process.wait()
    start(name)


def reboot_host() -> None:
    """Simulate a power cut, as far as the cloud's servers can tell.

    The engine, all processes of servers, their namespaces, NICs and loop devices end.
    """
    supervisor.stop("nova-compute")
    supervisor.stop("dockerd", "containerd")
    # The engine leaves its servers running: live-restore.
    servers = [
        process
        for process in map(psutil.Process, cgroup.processes())
        if process.name().startswith("containerd-shim") or _in_container(process)
    ]
    for process in servers:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cgroup.thaw()
    psutil.wait_procs(servers, timeout=30)
    start("containerd")
    start("dockerd")
    directory = engine.info(engine.OWN_SOCKET)["DockerRootDir"]
    for name in netns.listnetns():
        if directory in (network.describe(name)[0] or ""):
            network.unplug(name)
            userns.release(name)
            shutil.rmtree(f"/run/nova-docker/devices/{name}", ignore_errors=True)
            down.unmount_volumes(name)
    volumes.detach_devices()
    start("nova-compute")
