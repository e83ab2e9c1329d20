# SPDX-License-Identifier: Apache-2.0
"""HTTP on a unix socket, as the Docker engine and supervisord speak it."""

from __future__ import annotations

import http.client
import pathlib
import socket


class UnixHTTPConnection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket."""

    def __init__(self, path: str | pathlib.Path, timeout: float = 60) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
