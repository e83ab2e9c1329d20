# SPDX-License-Identifier: Apache-2.0
"""Privileged operations on the files of lxcfs that servers have in their /proc."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Mapping
from collections.abc import Sequence

from nova_docker.privsep import child
from nova_docker.privsep import mount_api
from nova_docker.privsep.contexts import devices_admin
from nova_docker.privsep.devices import closing
from nova_docker.privsep.devices import process_of

_DETACH, _NOFOLLOW = 2, 8  # of umount2(2)
_FLAGS = mount_api.RDONLY | mount_api.NOSUID | mount_api.NODEV | mount_api.NOEXEC


@devices_admin.entrypoint
def renew(point: str, files: Sequence[str], pid: int, container: str) -> None:
    """Replace mounts of an lxcfs that has ended in a server that runs.

    :param point: where lxcfs is mounted
    :param files: on which the server has another one mounted, by their full paths
    :param pid: of its first process
    :param container: the engine's id of its container
    :raises ProcessLookupError: if that is no process of the container, or no longer
    :raises OSError: if lxcfs or the kernel refuses
    """
    with contextlib.ExitStack() as opened:
        trees = {}
        for file in files:
            tree = opened.enter_context(closing(mount_api.clone(point + file)))
            mount_api.change(tree, set=_FLAGS)
            trees[file] = tree
        process = opened.enter_context(process_of(pid, container))
        namespace = os.open("ns/mnt", os.O_RDONLY, dir_fd=process)
        opened.enter_context(closing(namespace))
        child.run(functools.partial(_replace, namespace, trees))


# What follows runs in a child, which makes system calls only.


def _replace(namespace: int, trees: Mapping[str, int]) -> None:
    child.check(child.libc.setns(namespace, child.CLONE_NEWNS), "setns")
    for file, tree in trees.items():
        _, top, name = file.split("/", 2)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        with closing(os.open(f"/{top}", flags)) as directory:
            # What the kernel has mounted there, the server cannot replace or rename.
            if os.fstat(directory).st_dev == os.stat("/").st_dev:
                raise OSError(errno.ENODEV, f"nothing is mounted on /{top}")
            os.fchdir(directory)
            old = child.libc.umount2(os.fsencode(name), _DETACH | _NOFOLLOW)
            child.check(old, f"umount {file}")
            mount_api.move(tree, name)
