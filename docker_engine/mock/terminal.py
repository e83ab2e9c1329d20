# SPDX-License-Identifier: Apache-2.0
"""A terminal that stands in for a process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable


def echo(end: Callable[[], None]) -> socket.socket:
    """Return a terminal that echoes its input until it is closed or gets ``exit``.

    :param end: called when it ends
    """
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs:
            while (typed := theirs.recv(4096)) and b"exit" not in typed:
                theirs.sendall(typed)
            # Before the terminal closes: a client may then ask for the exit code.
            end()

    threading.Thread(target=play, daemon=True).start()
    return ours
