# SPDX-License-Identifier: Apache-2.0
"""What a relay between two sockets waits for."""

from __future__ import annotations

import selectors
import socket


def watch(
    selector: selectors.BaseSelector, sock: socket.socket, read: bool, write: bool
) -> None:
    """Let a selector wait until a socket can be read or written, or for neither."""
    events = read * selectors.EVENT_READ | write * selectors.EVENT_WRITE
    if sock in selector.get_map():
        selector.unregister(sock)
    if events:
        selector.register(sock, events)
