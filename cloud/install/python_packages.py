# SPDX-License-Identifier: Apache-2.0
"""The virtual environment: supervisord, OpenStack, this project, Tempest."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Sequence

from cloud import commands
from cloud import settings
from cloud.install import debian_packages
from cloud.state import state

# What a virtual environment needs. bindep, which finds the other missing packages,
# runs in it; and pip fills it while apt installs those.
VENV_PACKAGES = ("ca-certificates", "python3-venv")

# What is needed before OpenStack is installed. supervisord runs the services. Debian
# 12's version is not used: it goes on polling a file descriptor that a service's
# child has closed, which takes a whole CPU. 4.3.0 needs pkg_resources, which newer
# releases of setuptools lack; the project's wheel is built with the same setuptools.
TOOLS = ("supervisor==4.3.0", "setuptools>=77.0.3,<81", "bindep")

CONSTRAINTS = settings.SOURCE / "constraints.txt"
# The requirements of what is only installed for those who want it
OPTIONAL = {
    "heat": settings.SOURCE / "cloud/requirements-heat.txt",
    "horizon": settings.SOURCE / "cloud/requirements-horizon.txt",
    "tempest": settings.SOURCE / "cloud/tempest/requirements.txt",
}

_PROJECT_REQUIREMENTS = (
    "requirements.txt",
    "requirements-compute.txt",
    "requirements-glance.txt",
)
REQUIREMENTS = tuple(
    settings.SOURCE / name
    for name in ("cloud/requirements.txt", *_PROJECT_REQUIREMENTS)
)

# What the project's wheel is built from.
PROJECT_FILES = (
    "LICENSE",
    "bin",
    "docker_engine",
    "glance_docker",
    "lib",
    "nova_docker",
    "nova_docker.pth",
    "nova_docker_dashboard",
    "pyproject.toml",
    *_PROJECT_REQUIREMENTS,
    "setup.py",
)


def make_venv() -> None:
    """Create the virtual environment, with ``TOOLS`` only."""
    debian_packages.install(VENV_PACKAGES)
    tools = " ".join(TOOLS)
    if state.get("supervisor") != tools:
        commands.run("/usr/bin/python3", "-m", "venv", settings.VENV)
        _pip_install(f"--constraint={CONSTRAINTS}", *TOOLS)
        state.set("supervisor", tools)


def openstack_revision() -> str:
    """Return a hash that changes when OpenStack must be installed again."""
    return digest([*REQUIREMENTS, CONSTRAINTS], *TOOLS, sys.version)


def install_openstack() -> None:
    revision = openstack_revision()
    if state.get("openstack_revision") == revision:
        return
    _pip_install(
        "--no-compile",
        f"--constraint={CONSTRAINTS}",
        *(f"--requirement={path}" for path in REQUIREMENTS),
        *TOOLS,
    )
    # Compile on all CPUs, and skip the tests, which are half of OpenStack's code.
    commands.run(
        settings.BIN / "python",
        *("-m", "compileall", "-q", "-j", "0", "-x", "/tests/"),
        settings.VENV / "lib",
        check=False,
    )
    state.set("openstack_revision", revision)


def optional_revision(name: str) -> str:
    """Return a hash that changes when one of ``OPTIONAL`` must be installed again."""
    return digest([OPTIONAL[name], CONSTRAINTS])


def install_optional(name: str) -> None:
    """Install one of ``OPTIONAL``, unless the same revision is installed."""
    revision = optional_revision(name)
    if state.get(f"{name}_revision") != revision:
        _pip_install(f"--constraint={CONSTRAINTS}", f"--requirement={OPTIONAL[name]}")
        state.set(f"{name}_revision", revision)


def install_tempest() -> None:
    """Install Tempest, which only ``./quickstart tempest`` needs."""
    debian_packages.install_missing("tempest")
    install_optional("tempest")


def _pip_install(*arguments: str) -> None:
    pip = (settings.BIN / "pip", "install", "--quiet")
    commands.run(*pip, *arguments, env=commands.installer_env())


def project_revision() -> str:
    """Return a hash that changes when this project must be installed again."""
    return digest([settings.SOURCE / name for name in PROJECT_FILES])


def install_project() -> None:
    """Install this checkout, unless the same revision is installed."""
    revision = project_revision() + openstack_revision()
    if state.get("project_revision") == revision:
        return
    # Build a copy: a build leaves files in its source directory.
    with tempfile.TemporaryDirectory(dir=settings.RUN) as copy:
        for name in PROJECT_FILES:
            source, target = settings.SOURCE / name, pathlib.Path(copy, name)
            if source.is_dir():
                shutil.copytree(
                    source, target, ignore=shutil.ignore_patterns("__pycache__")
                )
            else:
                shutil.copy(source, target)
        _pip_install(
            "--force-reinstall",
            "--no-deps",
            "--no-index",
            "--no-build-isolation",
            copy,
        )
    state.set("project_revision", revision)


def digest(paths: Sequence[pathlib.Path], *more: str) -> str:
    """Return a hash of files, and of all files below directories."""
    found = hashlib.sha256("\0".join(more).encode())
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(settings.SOURCE)}\0".encode())
                found.update(file.read_bytes())
    return found.hexdigest()
