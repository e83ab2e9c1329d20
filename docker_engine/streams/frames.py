# SPDX-License-Identifier: Apache-2.0
"""Output of a container without a terminal: standard output and error, framed.

Engine API reference, "Attach to a container", stream format.
"""

from __future__ import annotations

from collections.abc import Iterator

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_HEADER = 8


def frames(content: bytes) -> Iterator[bytes]:
    """Yield the payloads of framed output, without their headers."""
    start = 0
    while start < len(content):
        payload = start + _HEADER
        size = int.from_bytes(content[start + 4 : payload], "big")
        start = payload + size
        yield content[payload:start]
