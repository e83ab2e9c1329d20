# SPDX-License-Identifier: Apache-2.0
"""Servers that fork until the kernel refuses."""

from __future__ import annotations

import subprocess
import time

from cloud import images
from nova_docker.container.naming import name_of
from nova_docker.host import kernel
from tests import archives
from tests.attacks import attack
from tests.cloud.conftest import eventually

SERVERS = 8
# Bounds the attack, and is more than the share of a docker.small on a small host.
MOST = 3000
# A shell ends when it cannot fork, so the attack is in a shell of its own.
FORK = f"""
sh -c 'n=0; while [ $n -lt {MOST} ] && (sleep 600 & true); do n=$((n + 1)); done'
echo refused
exec sleep 600
"""


@attack(
    "All process IDs of the host",
    tried="Eight servers of docker.small, each of which forks until the kernel refuses",
    held_by="A server's share of the processes follows its flavor's memory, and the "
    "shares of all servers leave half of the processes to the host",
)
def test_servers_that_fork_leave_the_host_and_a_neighbour_working(
    boot, upload, engine, demo
):
    neighbour = boot(images.BUSYBOX)
    command = {"Cmd": ["sh", "-c", FORK]}
    image = upload(archives.busybox_archive(config=command))
    # The first fetches the image, so that the others start at the same time.
    servers = [boot(image, flavor="docker.small")]
    servers += [
        boot(image, flavor="docker.small", until=None) for _ in range(SERVERS - 1)
    ]
    assert eventually(lambda: all(server.status == "ACTIVE" for server in servers))
    assert eventually(lambda: all("refused" in server.console() for server in servers))

    counts = [processes(engine, server) for server in servers]
    assert all(100 < count < MOST for count in counts), counts
    assert sum(counts) <= kernel.processes_of_servers()

    # The host can fork, and the cloud works.
    for _ in range(20):
        subprocess.run(["true"], check=True)
    assert neighbour.run("(echo 1; echo 2) | tail -n 1") == "2\n"
    another = boot(images.BUSYBOX)
    assert another.run("echo works") == "works\n"

    # They are deleted like any other server.
    began = time.monotonic()
    for server in servers:
        demo.compute.delete_server(server.id)
    left = {f"/{name_of(server.id)}" for server in servers}
    assert eventually(
        lambda: not left & {c["Names"][0] for c in engine.list_containers()}
    )
    assert time.monotonic() - began < 60
    assert neighbour.status == "ACTIVE"


def processes(engine, server):
    """Return the number of processes in a server; this forks none in it."""
    return engine.container_stats(name_of(server.id))["pids_stats"]["current"]
