# SPDX-License-Identifier: Apache-2.0
"""A server that counts, which shows whether it is running and since when."""

from __future__ import annotations

from typing import Any

COUNT = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done"


def counted(server: Any) -> int:
    """Return the current count of a server that runs ``COUNT``."""
    # The file is empty for a moment whenever it is written.
    return int(server.run("until read n < /count; do :; done; echo $n"))
