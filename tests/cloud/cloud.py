# SPDX-License-Identifier: Apache-2.0
"""The cloud that ./quickstart starts, for tests."""

from __future__ import annotations

import functools
import pathlib
import shlex
import subprocess
from typing import Any

import openstack
import openstack.config
import psutil

ROOT = pathlib.Path(__file__).parents[2]
QUICKSTART = ROOT / "quickstart"
# What the user pages show
EXAMPLES = ROOT / "doc/source/user/examples"


def up(*options: str) -> None:
    """Start the cloud, or bring it in line with this checkout."""
    subprocess.run([QUICKSTART, "up", *options], check=True)


def make_systemd() -> None:
    """Build the quickstart's image with systemd, unless it exists."""
    subprocess.run([QUICKSTART, "systemd"], check=True)


@functools.cache
def environment() -> dict[str, str]:
    """Return the variables that ``./quickstart env`` exports, without PATH."""
    lines = subprocess.run(
        [QUICKSTART, "env"], check=True, capture_output=True, text=True
    ).stdout
    words = (shlex.split(line)[1] for line in lines.splitlines())
    found = dict(word.split("=", 1) for word in words)
    del found["PATH"]
    return found


def directory() -> pathlib.Path:
    """Return the directory of the cloud's state."""
    return pathlib.Path(environment()["OS_CLIENT_CONFIG_FILE"]).parent


def ssh(address: str, command: str) -> str | None:
    """Run a command by SSH as root, with the key pair ``quickstart``.

    :returns: its output, or None if it fails or the server does not answer
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "5",
        "IdentityFile": directory() / "quickstart.key",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    words = (word for pair in options.items() for word in ("-o", "{}={}".format(*pair)))
    found = subprocess.run(
        ["ssh", "-q", "-F", "/dev/null", *words, f"root@{address}", command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return found.stdout if found.returncode == 0 else None


def connect(user: str = "admin") -> Any:
    """Return an openstacksdk connection of a user in clouds.yaml."""
    config = openstack.config.OpenStackConfig(
        config_files=[environment()["OS_CLIENT_CONFIG_FILE"]], load_envvars=False
    )
    return openstack.connection.Connection(config=config.get_one(user))


def nova_compute(other_than: int = 0) -> psutil.Process | None:
    """Return the process of nova-compute, but not of the one with Nova's fake driver.

    :param other_than: process ID to ignore
    """
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or [])
        if (
            "nova-compute" in line
            and "nova.conf" in line
            and "fake-compute.conf" not in line
            and process.info["pid"] != other_than
        ):
            return process
    return None
