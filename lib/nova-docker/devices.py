# SPDX-License-Identifier: Apache-2.0
"""Give a container the block devices that its server has, before its first process.

nova-compute keeps a node for each of them in a directory that only root of the host can
read. They may have other numbers than when the server ran last.
"""

import os
import stat

import userns

DIRECTORY = "/run/nova-docker/devices"
BLOCK = "/sys/dev/block"
# The kinds of limits that a flavor may have
THROTTLES = ("throttleReadBpsDevice", "throttleReadIOPSDevice")


def of(server):
    """Return the nodes of a server's devices, by their names in its /dev."""
    directory = f"{DIRECTORY}/{server}"
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return {}
    # One that is being made has a name with a dot.
    return {n: os.stat(f"{directory}/{n}") for n in names if not n.startswith(".")}


def forbid_others(spec, stage):
    """Let no device node of the image or of a mount from the host be opened."""
    spec["root"]["path"] = stage.shift_root(spec["root"]["path"])
    for mount in spec.get("mounts", []):
        if userns.is_bind(mount):
            stage.shift_mount(mount)


def add(spec, nodes, stage):
    """Add devices to an OCI spec.

    A mount of a node, and not a node: a server in a user namespace cannot have one in
    its own /dev, and no server can rename, link or remove a mount.

    :param nodes: as :func:`of` returns them
    :param stage: makes the nodes that the server sees
    """
    rules = spec["linux"].setdefault("resources", {}).setdefault("devices", [])
    for name, node in nodes.items():
        mode = stat.S_IMODE(node.st_mode)
        spec["mounts"].append(
            {
                "type": "bind",
                "destination": f"/dev/{name}",
                "source": stage.node(node.st_rdev, mode),
                "options": ["bind", "nosuid", "noexec"],
            }
        )
        rules.append(
            {
                "allow": True,
                "type": "b",
                "major": os.major(node.st_rdev),
                "minor": os.minor(node.st_rdev),
                "access": "rw" if mode & 0o200 else "r",
            }
        )
    limit(spec, [node.st_rdev for node in nodes.values()])


def limit(spec, numbers):
    """Give each device the limits that the root disk has: they are for each disk."""
    limits = (spec["linux"].get("resources") or {}).get("blockIO") or {}
    for throttle in THROTTLES:
        if of_root := limits.get(throttle):
            rate = of_root[0]["rate"]
            for major, minor in sorted({disk_of(number) for number in numbers}):
                of_root.append({"major": major, "minor": minor, "rate": rate})


def disk_of(number):
    """Return the number of the whole disk of a device: the kernel limits no parts."""
    path = os.path.realpath(f"{BLOCK}/{os.major(number)}:{os.minor(number)}")
    if not os.path.exists(f"{path}/partition"):
        return os.major(number), os.minor(number)
    with open(f"{os.path.dirname(path)}/dev") as disk:
        return tuple(map(int, disk.read().split(":")))
