# SPDX-License-Identifier: Apache-2.0
"""A stand-in for an NFS server: local file systems that mount(8) mounts as type nfs.

What is called and bound is real, but for ``mount.nfs``: mount(8) calls it for the type
nfs, and the kernels of machines for tests often have no NFS.
"""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

from nova import objects

HELPER = pathlib.Path("/sbin/mount.nfs")

#: Exports of this server are mounted.
STORAGE = "storage"
#: This server does not answer, as far as mount.nfs can tell.
SILENT = "silent"

#: What mount.nfs is then
SLEEP = "sleep 98765"

# $1 is <server>:/<export>, $2 the place, $4 the options
_SCRIPT = """\
#!/bin/sh
case "$1" in
{storage}:/*) ;;
{silent}:/*) exec {sleep} ;;
*)
    echo "mount.nfs: access denied by server while mounting $1" >&2
    exit 32
    ;;
esac
/bin/mount --bind "{exports}/${{1#*:/}}" "$2" &&
    /bin/mount --options "remount,bind,$4" "$2"
"""


@contextlib.contextmanager
def serving(directory: pathlib.Path) -> Iterator[pathlib.Path]:
    """Let mount(8) mount the directories below a new file system, as type nfs.

    :yields: the directory with the exports; ``ids`` cannot shift ids, the others can
    """
    exports, image = directory / "exports", directory / "image"
    exports.mkdir()
    script = directory / "mount.nfs"
    script.write_text(
        _SCRIPT.format(storage=STORAGE, silent=SILENT, sleep=SLEEP, exports=exports)
    )
    script.chmod(0o755)
    with contextlib.ExitStack() as last:
        _run("truncate", "--size=32M", image)
        _run("mkfs.ext4", "-q", image)
        _mount(last, exports, "--options", "loop,suid,dev", image)
        (exports / "ids").mkdir()
        _mount(last, exports / "ids", "--types", "ramfs", "none")
        if not HELPER.exists():
            HELPER.touch()
            last.callback(HELPER.unlink)
        _mount(last, HELPER, "--bind", script)
        yield exports


def share(
    server: Any, share_id: str, tag: str = "data", *, host: str = STORAGE
) -> objects.ShareMapping:
    """Return what Nova knows of a share of a server, whose export is its ID.

    :param server: of the functional tests
    """
    return objects.ShareMapping(
        share_id=share_id,
        instance_uuid=server.instance.uuid,
        status="inactive",
        tag=tag,
        export_location=f"{host}:/{share_id}",
        share_proto="NFS",
    )


def mounts() -> str:
    """Return all shares that are mounted on the host, for a message."""
    lines = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    return "\n".join(line for line in lines if "/nova-docker/shares/" in line)


def _mount(last: contextlib.ExitStack, place: pathlib.Path, *arguments: object) -> None:
    _run("mount", *arguments, place)
    last.callback(_run, "umount", place)


def _run(*command: object) -> None:
    program = shutil.which(str(command[0])) or command[0]
    subprocess.run([str(program), *map(str, command[1:])], check=True)
