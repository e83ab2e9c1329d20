# SPDX-License-Identifier: Apache-2.0
"""The terminal of a process that is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


def echo(end: Callable[[], None]) -> socket.socket:
    """Return a terminal that echoes its input until it is closed or reads ``exit``."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs:
            while (typed := theirs.recv(4096)) and b"exit" not in typed:
                theirs.sendall(typed)
            # Whoever sees the terminal closed must find the command ended.
            end()

    threading.Thread(target=play, daemon=True).start()
    return ours
