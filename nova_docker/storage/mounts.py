# SPDX-License-Identifier: Apache-2.0
"""Mounts of a server's container, in the engine's form: ``HostConfig.Mounts``."""

from __future__ import annotations

from typing import Any

Mount = dict[str, Any]


def read_only_directory(source: str, target: str) -> Mount:
    """Mount a directory of the host.

    :param source: absolute path on the host
    :param target: absolute path in the container
    """
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def existing_volume(name: str, target: str) -> Mount:
    """Mount a volume of the engine that another container has."""
    return {
        "Type": "volume",
        "Source": name,
        "Target": target,
        "VolumeOptions": {"NoCopy": True},
    }


def overlay_volume(options: str, target: str) -> Mount:
    """Mount an overlay, as an anonymous volume that goes with the container.

    :param options: of mount(8), comma-separated
    """
    return {
        "Type": "volume",
        "Target": target,
        "VolumeOptions": {
            # The engine would otherwise copy the image's content at that path into it.
            "NoCopy": True,
            "DriverConfig": {
                "Name": "local",
                "Options": {"type": "overlay", "device": "overlay", "o": options},
            },
        },
    }
