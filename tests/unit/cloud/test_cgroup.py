# SPDX-License-Identifier: Apache-2.0
"""Killing what a cloud has left running, and never another cloud."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import pytest

from cloud import cgroup
from cloud import settings
from cloud.errors import QuickstartError


@pytest.fixture
def process(monkeypatch):
    """Starts a process in what the module takes for the control group."""
    started = []

    def start(*words):
        code = "import time; time.sleep(60)"
        sleeping = subprocess.Popen([sys.executable, "-c", code, *words])
        started.append(sleeping)
        # The kernel shows no command line in the middle of an exec.
        while not pathlib.Path(f"/proc/{sleeping.pid}/cmdline").read_bytes():
            time.sleep(0.01)
        return sleeping

    def processes():
        return {each.pid for each in started if each.poll() is None}

    monkeypatch.setattr(cgroup, "processes", processes)
    # Servers of a cloud on this machine stay frozen.
    monkeypatch.setattr(cgroup, "thaw", lambda: None)
    yield start
    for each in started:
        each.kill()
        each.wait()


def test_processes_that_a_cloud_has_left_running_are_killed(process):
    left = process("rabbitmq-server")
    cgroup.kill()
    assert left.wait() < 0


def test_a_supervisord_of_the_same_cloud_is_killed(process):
    left = process("--configuration", str(settings.STATE / "etc/supervisord.conf"))
    cgroup.kill()
    assert left.wait() < 0


def test_a_cloud_in_another_state_directory_keeps_running(process):
    services = process("rabbitmq-server")
    supervisord = process("--configuration", "/elsewhere/etc/supervisord.conf")
    with pytest.raises(
        QuickstartError, match=r"a cloud in /elsewhere .* \./quickstart down"
    ):
        cgroup.kill()
    assert services.poll() is None
    assert supervisord.poll() is None
