# SPDX-License-Identifier: Apache-2.0
"""What a server reads from its volumes and writes to them, as the kernel counts it."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from nova import exception
from nova import objects

from nova_docker.volume import disks

_BLOCK = pathlib.Path("/sys/dev/block")
_SECTOR = 512  # bytes, whatever the device says


def of(
    instance: objects.Instance, bdms: Iterable[Any], numbers: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """Yield the usage of each volume of a server, in ComputeDriver's form.

    :param bdms: the server's block device mappings
    :param numbers: of the server's devices, by their names
    """
    for bdm in bdms:
        with contextlib.suppress(exception.InvalidDevicePath, KeyError, OSError):
            number = numbers[disks.device_of(bdm.device_name)]
            yield {
                "volume": bdm.volume_id,
                "instance": instance,
                **counters((_BLOCK / number / "stat").read_text()),
            }


def counters(stat: str) -> dict[str, int]:
    """Return the counters of a block device.

    :param stat: content of its file in sysfs
    """
    read, _, read_sectors, _, written, _, written_sectors, *_ = map(int, stat.split())
    return {
        "rd_req": read,
        "rd_bytes": read_sectors * _SECTOR,
        "wr_req": written,
        "wr_bytes": written_sectors * _SECTOR,
    }
