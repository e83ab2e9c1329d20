# SPDX-License-Identifier: Apache-2.0
"""Volumes and other block devices of a server: none is supported yet."""

from __future__ import annotations

from typing import Any

from nova import exception


def refuse(block_device_info: Any) -> None:
    """Refuse volumes and ephemeral disks, which would otherwise be silently missing.

    :param block_device_info: as ComputeDriver.spawn receives it
    :raises InvalidInput: naming the first kind found
    """
    devices = block_device_info or {}
    for requested, kind in (
        (devices.get("block_device_mapping"), "volumes"),
        (devices.get("ephemerals"), "ephemeral disks"),
    ):
        if requested:
            raise exception.InvalidInput(
                reason=f"the Docker driver does not support {kind}; create the server "
                f"without {kind}"
            )
