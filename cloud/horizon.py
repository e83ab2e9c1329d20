# SPDX-License-Identifier: Apache-2.0
"""Horizon: its settings, this project's plug-in, and its static files."""

from __future__ import annotations

import pathlib

from cloud import commands
from cloud import settings
from cloud.install import python_packages
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.state import state

STATIC = DATA / "horizon/static"
SETTINGS = "horizon/local_settings.py"


def install() -> None:
    """Install Horizon, and link its settings and plug-ins to where it reads them."""
    python_packages.install_optional("horizon")
    (packages,) = settings.VENV.glob("lib/python3*/site-packages")
    local = packages / "openstack_dashboard/local"
    _link(local / "local_settings.py", ETC / SETTINGS)
    for file in (packages / "nova_docker_dashboard/enabled").glob("_*_*.py"):
        _link(local / "enabled" / file.name, file)
    _collect_static_files()


def revision() -> str:
    """Return a hash that changes when the static files must be collected again."""
    return (
        python_packages.optional_revision("horizon")
        + python_packages.project_revision()
    )


def _link(link: pathlib.Path, target: pathlib.Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _collect_static_files() -> None:
    """Copy the static files to one directory, and compress them, as Horizon asks."""
    if state.get("horizon_static") == revision():
        return
    _django_admin("collectstatic", "--no-input", "--clear", "--verbosity=0")
    _django_admin("compress", "--force")
    state.set("horizon_static", revision())


def _django_admin(*arguments: str) -> None:
    commands.run(
        settings.BIN / "python",
        *("-m", "django", *arguments),
        env=commands.clean_env(DJANGO_SETTINGS_MODULE="openstack_dashboard.settings"),
        user=settings.USER,
    )
