# SPDX-License-Identifier: Apache-2.0
"""Loop devices, and links that keep a volume's path when its device changes.

Nova stores the path of a volume's device, and uses it again after a restart of the
host. The number of a loop device may then belong to another volume, so Nova gets the
path of a symbolic link instead. The links also record which volumes are exported.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

# Runs losetup with these arguments as root, and returns its standard output.
Losetup = Callable[..., str]

_SYSFS = pathlib.Path("/sys/block")


def attach(losetup: Losetup, file: pathlib.Path, link: pathlib.Path) -> None:
    """Give a file a loop device, unless it has one, and let a link point to it."""
    device = losetup("--find", "--show", "--nooverlap", str(file)).strip()
    temporary = link.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(device)
    temporary.rename(link)


def detach(losetup: Losetup, file: pathlib.Path, link: pathlib.Path) -> None:
    """Remove the link, and detach the file from its loop device.

    The kernel keeps a device that is in use until that ends.
    """
    link.unlink(missing_ok=True)
    for device in devices_of(file):
        losetup("--detach", device)


def resize(losetup: Losetup, file: pathlib.Path) -> None:
    """Tell the file's loop device that the file has another size."""
    for device in devices_of(file):
        losetup("--set-capacity", device)


def restore(losetup: Losetup, files: pathlib.Path, links: pathlib.Path) -> None:
    """Attach the files of all links again, after a restart of the host.

    :param files: directory of the files, whose names are those of their links
    """
    for link in sorted(links.iterdir()):
        file = files / link.name
        if file.exists():
            attach(losetup, file, link)
        else:
            link.unlink()


def devices_of(file: pathlib.Path) -> list[str]:
    """Return the paths of the loop devices of a file, which are none or one."""
    real = file.resolve()
    return [device for device, backing in all_devices() if backing == real]


def all_devices() -> list[tuple[str, pathlib.Path]]:
    """Return all loop devices that are in use, with their files."""
    found = []
    for attribute in sorted(_SYSFS.glob("loop*/loop/backing_file")):
        try:
            backing = attribute.read_text().removesuffix("\n")
        except OSError:
            # Detached since it was listed
            continue
        device = os.path.join("/dev", attribute.parents[1].name)
        found.append((device, pathlib.Path(backing.removesuffix(" (deleted)"))))
    return found
