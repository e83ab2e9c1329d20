# SPDX-License-Identifier: Apache-2.0
"""Upgrade of a host with running servers, by replacing the package.

An earlier version of the driver, from the history of this repository, boots the
servers.
"""

from __future__ import annotations

import io
import os
import pathlib
import subprocess
import tarfile
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import pytest

from cloud import settings
from cloud.install import python_packages
from cloud.state import state
from nova_docker.container.naming import name_of
from nova_docker.rescue import MOUNT_POINT
from tests import counter
from tests.cloud import services
from tests.cloud.conftest import Server
from tests.cloud.conftest import eventually

ROOT = pathlib.Path(__file__).parents[2]

# The last version in which docker_engine was a part of nova_docker.
EARLIER = "75e527a6bd8e999261fb56b287c2a55b6f7a8b4d"

# A script that reads a server's metadata; a static busybox's wget crashes.
METADATA = (
    r"printf 'GET /openstack/latest/meta_data.json HTTP/1.0\r\n\r\n'"
    " | nc -w 5 169.254.169.254 80"
)

# The services that run code of this project.
SERVICES = ("nova-compute", "glance", "glance-docker-sync")


@pytest.fixture
def earlier_source(tmp_path: pathlib.Path) -> pathlib.Path:
    """A source tree of the earlier version."""

    def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["git", "-C", ROOT, *arguments], check=False, capture_output=True
        )

    if git("cat-file", "-e", f"{EARLIER}^{{commit}}").returncode:
        pytest.skip(f"needs the git history back to {EARLIER}")
    archive = git("archive", EARLIER)
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tree:
        tree.extractall(tmp_path)
    return tmp_path


@pytest.fixture
def upgrade(
    earlier_source: pathlib.Path, the_cloud: None
) -> Iterator[Callable[[], None]]:
    """Installs the earlier version; call it to upgrade to this version."""

    def to_this_version() -> None:
        state.set("project_revision", None)
        python_packages.install_project()
        restart()

    subprocess.run(
        [
            *(settings.BIN / "pip", "install", "--quiet", "--force-reinstall"),
            *("--no-deps", "--no-index", "--no-build-isolation", earlier_source),
        ],
        check=True,
        # pip would leave this version's files if it found the project there.
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )
    try:
        restart()
        assert not installed("docker_engine")
        yield to_this_version
    finally:
        if not installed("docker_engine"):
            to_this_version()


def restart() -> None:
    for name in SERVICES:
        services.restart(name)


def installed(package: str) -> bool:
    """Tell whether the services' environment has a package of this project."""
    found = subprocess.run(
        [settings.BIN / "python", "-I", "-c", f"import {package}"],
        check=False,
        capture_output=True,
    )
    return found.returncode == 0


def container(engine: Any, server: Server) -> tuple[str, int]:
    """Return a server's container ID, and the PID of its first process."""
    found = engine.inspect_container(name_of(server.id))
    return found["Id"], found["State"]["Pid"]


def test_servers_of_an_earlier_version_are_managed_by_this_one(
    upgrade, boot, demo, flavor, floating_ip, engine
):
    key = demo.compute.find_keypair("quickstart")
    running = boot(config_drive=True, key_name=key.name if key else None)
    counting = boot()
    counting.run(f"({counter.COUNT}) > /dev/null 2>&1 &")
    paused, stopped, suspended, rescued = (boot() for _ in range(4))
    paused.act("pause_server", until="PAUSED")
    stopped.act("stop_server", until="SHUTOFF")
    suspended.act("suspend_server", until="SUSPENDED")
    rescued.run("echo kept > /file")
    rescued.act("rescue_server", None, None, until="RESCUE")
    servers = [running, counting, paused, stopped, suspended, rescued]
    statuses = [server.status for server in servers]
    containers = [container(engine, server) for server in servers]
    addresses = [server.address() for server in servers]
    count = counter.counted(counting)

    upgrade()

    assert installed("docker_engine")
    # The upgrade has not changed any server.
    assert [server.status for server in servers] == statuses
    assert [container(engine, server) for server in servers] == containers
    assert [server.address() for server in servers] == addresses
    assert counter.counted(counting) > count
    for server in (running, counting):
        assert server.address() in server.run("ip -o addr show dev eth0")
        # The port still reaches the metadata service.
        assert server.id in server.run(METADATA)

    # The driver follows the engine's events.
    engine.stop_container(name_of(counting.id), 0)
    assert eventually(lambda: counting.status == "SHUTOFF")
    counting.act("start_server", until="ACTIVE")

    # Servers can leave their states.
    paused.act("unpause_server", until="ACTIVE")
    assert container(engine, paused) == containers[2]
    stopped.act("start_server", until="ACTIVE")
    suspended.act("resume_server", until="ACTIVE")
    rescued.act("unrescue_server", until="ACTIVE")
    assert rescued.run("cat /file") == "kept\n"

    # Servers can be rebooted, resized, rescued and rebuilt.
    running.act("reboot_server", "SOFT", until="ACTIVE")
    running.act("reboot_server", "HARD", until="ACTIVE")
    large = demo.compute.find_flavor(flavor(ram=128, vcpus=2)).id
    running.act("resize_server", large, until="VERIFY_RESIZE")
    running.act("confirm_server_resize", until="ACTIVE")
    limits = engine.inspect_container(name_of(running.id))["HostConfig"]
    assert limits["Memory"] == 128 * 2**20
    assert running.run("ls /var/lib/cloud/seed/config_drive/openstack/latest")
    assert running.address() in running.run("ip -o addr show dev eth0")
    stopped.run("echo kept > /file")
    stopped.act("rescue_server", None, None, until="RESCUE")
    assert stopped.run(f"cat {MOUNT_POINT}/file") == "kept\n"
    stopped.act("unrescue_server", until="ACTIVE")
    image = paused.show().image["id"]
    paused.act("rebuild_server", image, until="ACTIVE")
    assert paused.address() == addresses[2]
    # The fixtures delete the servers and check that nothing is left.
