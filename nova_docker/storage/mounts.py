# SPDX-License-Identifier: Apache-2.0
"""Mounts of a container, as items of the engine's ``HostConfig.Mounts``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oslo_utils import units

Mount = dict[str, Any]


def is_below(path: str, top: str) -> bool:
    """Return whether an absolute path is another one or inside it."""
    return top == "/" or path == top or path.startswith(f"{top}/")


def read_only_directory(source: str, target: str) -> Mount:
    """Return a read-only mount of a directory of the host.

    :param source: absolute path on the host
    :param target: absolute path in the container
    """
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def left_out(target: str) -> Mount:
    """Return a mount that the OCI runtime leaves out, see :mod:`.image_volumes`.

    It has this effect only on containers with the variable that
    :mod:`nova_docker.container.spec` sets.

    :param target: absolute path in the container
    """
    return {"Type": "tmpfs", "Target": target}


def in_memory(target: str, size_mb: int) -> Mount:
    """Return a mount of a file system in the server's memory.

    The size tells it from :func:`left_out`.

    :param target: absolute path in the container
    :param size_mb: in MiB
    """
    return {
        "Type": "tmpfs",
        "Target": target,
        "TmpfsOptions": {"SizeBytes": size_mb * units.Mi, "Mode": 0o1777},
    }


def existing_volume(name: str, target: str) -> Mount:
    """Return a mount of a volume of the engine, which keeps its content.

    :param name: the volume's name
    :param target: absolute path in the container
    """
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "VolumeOptions": {"NoCopy": True},
    }


def overlay_volume(options: str, target: str, labels: Mapping[str, str]) -> Mount:
    """Return a mount of an overlay: an anonymous volume, removed with the container.

    :param options: of mount(8), comma-separated
    :param target: absolute path in the container
    :param labels: of the volume
    """
    return {
        "Type": "volume",
        "Target": target,
        "VolumeOptions": {
            # Otherwise the engine copies the image's files at ``target`` into it.
            "NoCopy": True,
            "Labels": dict(labels),
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "overlay", "device": "overlay", "o": options},
            },
        },
    }
