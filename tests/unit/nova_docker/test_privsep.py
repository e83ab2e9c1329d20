# SPDX-License-Identifier: Apache-2.0
"""The privileged daemon finds what it runs."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import nova_docker
from nova_docker.privsep import devices_admin
from nova_docker.privsep import layers_admin
from nova_docker.privsep import netns_admin
from nova_docker.privsep import shares_admin
from nova_docker.privsep import userns_admin

ROOT = pathlib.Path(nova_docker.__file__).parent.parent


def test_the_names_of_the_contexts_stay():
    """They are in the sudo or rootwrap rules of hosts."""
    assert netns_admin.pypath == "nova_docker.privsep.netns_admin"
    assert userns_admin.pypath == "nova_docker.privsep.userns_admin"
    assert devices_admin.pypath == "nova_docker.privsep.devices_admin"
    assert shares_admin.pypath == "nova_docker.privsep.shares_admin"
    assert layers_admin.pypath == "nova_docker.privsep.layers_admin"


def test_the_daemon_reads_no_module_after_it_has_dropped_its_capabilities():
    folder = ROOT / "nova_docker" / "privsep"
    modules = sorted(path.stem for path in folder.glob("[!_]*.py"))
    assert "network" in modules
    code = (
        "import sys\n"
        "from oslo_utils import importutils\n"
        f"context = importutils.import_class({netns_admin.pypath!r})\n"
        f"for module in {modules}:\n"
        "    assert f'nova_docker.privsep.{module}' in sys.modules, module\n"
        "sys.path.clear()\n"
        "function = importutils.import_class('nova_docker.privsep.network.plug')\n"
        "assert context.is_entrypoint(function)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
