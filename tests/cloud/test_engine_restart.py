# SPDX-License-Identifier: Apache-2.0
"""Servers while their engine restarts."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from nova_docker.container.naming import name_of
from tests import archives
from tests.cloud import services
from tests.cloud.conftest import eventually
from tests.cloud.conftest import shown
from tests.cloud.test_network import SERVE
from tests.cloud.test_network import fetched
from tests.counter import COUNT
from tests.counter import counted


@pytest.fixture
def counter(upload):
    """The name of an image that counts."""
    return upload(archives.busybox_archive(config={"Entrypoint": ["sh", "-c", COUNT]}))


def state(engine, server):
    return engine.inspect_container(name_of(server.id))["State"]


def runs_commands(server):
    try:
        return server.run("echo yes") == "yes\n"
    except subprocess.CalledProcessError:
        return False


def counts(server):
    before = counted(server)
    return eventually(lambda: counted(server) > before, timeout=10)


def says(server, text):
    """Tell whether the console log shows what the server prints now."""
    server.run(f"echo {text} > /proc/1/fd/1")
    return eventually(lambda: text in server.console(), timeout=10)


@pytest.mark.parametrize("restart", [services.restart, services.kill])
@pytest.mark.parametrize("service", ["dockerd", "containerd"])
def test_servers_keep_running(boot, engine, admin, counter, view, service, restart):
    running, paused, suspended = (boot(counter) for _ in range(3))
    shell = boot()
    paused.act("pause_server", until="PAUSED")
    suspended.act("suspend_server", until="SUSPENDED")
    servers = (running, paused, suspended, shell)
    before = [state(engine, server) for server in servers]
    count = counted(running)

    restart(service)

    # The engine connects to containerd again within a second or two.
    assert eventually(lambda: runs_commands(running), timeout=10)
    assert [state(engine, server) for server in servers] == before
    assert counted(running) > count and counts(running)
    assert [server.status for server in servers] == [
        *("ACTIVE", "PAUSED", "SUSPENDED", "ACTIVE")
    ]
    # exec, the console log, the serial console, and statistics
    assert says(shell, f"after-{service}")
    viewer = view(shell)
    viewer.send_binary(b"echo still $((40 + 2))\n")
    shown(viewer, b"still 42\r\n")
    assert admin.compute.get_server_diagnostics(running.id).memory_details
    # NICs
    running.run("mkdir -p /tmp; " + SERVE.format(port=80))
    assert eventually(lambda: fetched(shell, running.address()))
    # Frozen servers continue where they were.
    paused.act("unpause_server", until="ACTIVE")
    suspended.act("resume_server", until="ACTIVE")
    assert counts(paused) and counts(suspended)
    assert [state(engine, server)["StartedAt"] for server in servers] == [
        each["StartedAt"] for each in before
    ]
    # Nova learns of an exit from the engine's events.
    os.kill(state(engine, running)["Pid"], signal.SIGKILL)
    assert eventually(lambda: running.status == "SHUTOFF", timeout=20)
    running.act("start_server", until="ACTIVE")
    assert counts(running)
