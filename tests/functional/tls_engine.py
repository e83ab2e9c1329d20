# SPDX-License-Identifier: Apache-2.0
"""A private engine that listens on loopback with TLS, and a wire that records."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import threading
from collections.abc import Iterator

from docker_engine.client import DockerClient
from tests import archives
from tests import certificates
from tests import engine as engines
from tests.conftest import IMAGE

# Prints what it reads, so that both directions carry it, and tells how it ended.
CHPASSWD = b"""#!/bin/sh
cat > /set
cat /set
"""


@contextlib.contextmanager
def running(directory: pathlib.Path) -> Iterator[tuple[str, engines.Engine]]:
    """Run an engine with certificates in a directory; yield its address with TLS."""
    certificates.make(directory)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    host = f"tcp://127.0.0.1:{port}"
    options = [
        f"--host={host}",
        "--tlsverify",
        f"--tlscacert={directory}/ca.pem",
        f"--tlscert={directory}/server.pem",
        f"--tlskey={directory}/server-key.pem",
    ]
    with engines.running(options) as engine:
        image = archives.busybox_archive(tags=[IMAGE], files={"bin/chpasswd": CHPASSWD})
        engine.client.load_image([image])
        yield host, engine


class Wire:
    """A TCP proxy that records what passes, in both directions.

    :ivar host: its address, for a client of the engine
    :ivar seen: everything so far, in any order of the connections
    """

    def __init__(self, host: str) -> None:
        self.seen = bytearray()
        self._address = ("127.0.0.1", int(host.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def client(self, directory: pathlib.Path) -> DockerClient:
        return DockerClient(self.host, tls=certificates.client(directory))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._address)
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(65536):
                self.seen += chunk
                target.sendall(chunk)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
