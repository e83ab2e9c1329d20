# SPDX-License-Identifier: Apache-2.0
"""Checks whether something is ready, and waiting until it is."""

from __future__ import annotations

import contextlib
import http.client
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any

from cloud.errors import QuickstartError


def wait_until(
    ready: Callable[[], Any],
    problem: str,
    *,
    timeout: float = 180,
    interval: float = 0.2,
) -> Any:
    """Call ``ready`` until it returns something true, and return that.

    :param problem: what the operator reads after ``timeout``, a sentence about
        what has not happened
    :param timeout: in seconds, as is ``interval``
    :raises QuickstartError: after ``timeout``
    """
    deadline = time.monotonic() + timeout
    while not (answer := ready()):
        if time.monotonic() > deadline:
            raise QuickstartError(f"{problem} (waited {timeout:.0f} s)")
        time.sleep(interval)
    return answer


def port_accepts(port: int) -> bool:
    """Tell whether a process accepts connections on a port of 127.0.0.1."""
    return accepts("127.0.0.1", port)


def accepts(address: str, port: int) -> bool:
    """Tell whether a process accepts connections at an address."""
    with contextlib.suppress(OSError):
        socket.create_connection((address, port), timeout=2).close()
        return True
    return False


def socket_accepts(path: pathlib.Path) -> bool:
    """Tell whether a process accepts connections on a unix socket."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        return True
    return False


def amqp_answers(port: int) -> bool:
    """Tell whether the broker answers with an AMQP 0-9-1 frame."""
    address = ("127.0.0.1", port)
    with (
        contextlib.suppress(OSError),
        socket.create_connection(address, timeout=2) as sock,
    ):
        sock.sendall(b"AMQP\x00\x00\x09\x01")
        return sock.recv(1) == b"\x01"
    return False


def http_answers(port: int) -> bool:
    """Tell whether an API answers; a request for a token (401) counts as well."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    return False
