# SPDX-License-Identifier: Apache-2.0
"""The cloud that ./quickstart starts, for tests."""

from __future__ import annotations

import os
import pathlib
import shlex
import subprocess
from typing import Any

import openstack

QUICKSTART = pathlib.Path(__file__).parents[2] / "quickstart"


def up() -> None:
    """Start the cloud, or bring it in line with this checkout."""
    subprocess.run([QUICKSTART, "up"], check=True)


def environment(user: str = "admin") -> dict[str, str]:
    """What ``eval "$(./quickstart env USER)"`` sets in a shell."""
    lines = subprocess.run(
        [QUICKSTART, "env", user], check=True, capture_output=True, text=True
    ).stdout
    words = shlex.split(lines.replace(";", " "), comments=True)
    found = dict(word.split("=", 1) for word in words if "=" in word)
    return {
        name: os.path.expandvars(value)
        for name, value in found.items()
        if not value.startswith("$(")
    }


def connect(user: str = "admin") -> Any:
    """An openstacksdk connection."""
    variables = {
        name.removeprefix("OS_").lower(): value
        for name, value in environment(user).items()
        if name.startswith("OS_")
    }
    variables.pop("cloud", None)
    return openstack.connect(load_envvars=False, load_yaml_config=False, **variables)
