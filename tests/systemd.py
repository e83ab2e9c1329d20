# SPDX-License-Identifier: Apache-2.0
"""The quickstart's Debian with systemd, as an image of any engine."""

from __future__ import annotations

import pathlib
import subprocess

from cloud import commands
from cloud import images


def tree(directory: pathlib.Path) -> pathlib.Path:
    """Return a tar archive of a Debian with systemd; create it if needed."""
    made = directory / "debian-systemd.tar"
    if not made.exists():
        new = directory / "new"
        commands.set_log(directory / "log")
        images.make_systemd_tree(new)
        new.rename(made)
    return made


def load(host: str, archive: pathlib.Path, name: str) -> None:
    """Have an engine import the tree as an image, whose command is /sbin/init.

    :param host: address of the engine
    """
    command = ["docker", "--host", host, "import", "--change", 'CMD ["/sbin/init"]']
    path = f"ENV PATH={images.PATH}"
    subprocess.run(
        [*command, "--change", path, str(archive), name],
        check=True,
        capture_output=True,
    )
