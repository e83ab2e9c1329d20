# SPDX-License-Identifier: Apache-2.0
"""A server by Ansible's collection openstack.cloud, with the user pages' playbooks."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

import pytest

from cloud.install.python_packages import digest
from tests.cloud import cloud
from tests.cloud.cloud import ssh

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements-ansible.txt")


@pytest.fixture(scope="session")
def ansible_playbook():
    """The program, in a virtual environment of its own beside those of tox."""
    work = pathlib.Path(os.environ.get("TOX_WORK_DIR", cloud.ROOT / ".tox"))
    venv, revision = work / "ansible", digest([REQUIREMENTS], sys.version)
    stamp = venv / "revision"
    if not stamp.exists() or stamp.read_text() != revision:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        pip = [venv / "bin/pip", "install", "--quiet", "--no-compile"]
        subprocess.run([*pip, f"--requirement={REQUIREMENTS}"], check=True)
        stamp.write_text(revision)
    return venv / "bin/ansible-playbook"


@pytest.fixture
def changed(ansible_playbook, nothing_is_left):
    """Runs a playbook, and returns how many of its tasks have changed anything."""

    def run(name):
        done = subprocess.run(
            [ansible_playbook, cloud.EXAMPLES / name],
            env=os.environ
            | {
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "OS_CLIENT_CONFIG_FILE": cloud.environment()["OS_CLIENT_CONFIG_FILE"],
            },
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["stats"]["localhost"]["changed"]

    yield run
    run("playbook-absent.yml")


def test_a_playbook_creates_a_server_once_and_another_removes_it(changed, demo):
    assert changed("playbook.yml") == 3
    server = demo.get_server("ansible")
    assert server.status == "ACTIVE"
    assert ssh(server.public_v4, "hostname") == "ansible\n"
    assert demo.get_server_console(server)

    assert changed("playbook.yml") == 0
    assert demo.get_server("ansible").id == server.id

    assert changed("playbook-absent.yml") == 2
    assert not demo.get_server("ansible")
    assert not list(demo.network.ports(name="ansible"))
    assert not list(demo.network.ips(floating_ip_address=server.public_v4))
    assert changed("playbook-absent.yml") == 0
