# SPDX-License-Identifier: Apache-2.0
"""``python3 -m cloud.debian_image NAME…``: the image debian for any engine.

It builds the image and imports it with the docker client, once, under each name. The
DevStack plugin uses it.
"""

from __future__ import annotations

import pathlib
import subprocess
import sys
import tempfile

from cloud import commands
from cloud import images


def main(name: str, *aliases: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        archive = pathlib.Path(directory, "debian.tar")
        commands.set_log(pathlib.Path(directory, "log"))
        images.make_debian_archive(archive)
        changes = [f"--change={change}" for change in images.DEBIAN_CHANGES]
        subprocess.run(["docker", "import", *changes, archive, name], check=True)
    for alias in aliases:
        subprocess.run(["docker", "tag", name, alias], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
