# SPDX-License-Identifier: Apache-2.0
"""Which package may ask which."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

import glance_docker

ROOT = pathlib.Path(glance_docker.__file__).parent.parent


@pytest.mark.parametrize("module", ["store", "sync", "command", "names"])
def test_a_host_of_glance_needs_no_nova(module):
    blocked = f"import sys; sys.modules['nova'] = None; import glance_docker.{module}"
    subprocess.run([sys.executable, "-c", blocked], check=True, cwd=ROOT)


def test_the_driver_knows_nothing_of_glances_part():
    for path in (ROOT / "nova_docker").glob("*.py"):
        assert "glance_docker" not in path.read_text(), path.name
