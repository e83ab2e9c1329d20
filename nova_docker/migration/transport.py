# SPDX-License-Identifier: Apache-2.0
"""The connections between hosts, and between this process and its privileged daemon.

Hosts reach each other by ssh as nova-compute's user, as with libvirt's driver:
operators have it, and no engine listens on the network. A key that another host has
runs only ``nova-docker-receive``, which connects to a socket of nova-compute.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
from collections.abc import Callable
from collections.abc import Iterator

from nova import conf as nova_conf
from nova import exception

from docker_engine.printable import printable
from nova_docker.migration.stream import Broken
from nova_docker.migration.stream import Channel

CONF = nova_conf.CONF

_MAX_OUTPUT = 1000  # bytes
_ACCEPT_SECONDS = 60
# A host that is gone without a word is noticed after a minute.
_OPTIONS = ("BatchMode=yes", "ServerAliveInterval=15", "ServerAliveCountMax=4")


@contextlib.contextmanager
def connected(address: str) -> Iterator[Channel]:
    """Connect to the nova-compute of another host.

    :param address: the host's ``[DEFAULT]my_ip``
    :raises MigrationError: if the block fails because the connection does, with what
        ssh has printed
    """
    ours, theirs = socket.socketpair()
    with os.fdopen(os.memfd_create("output"), "w+b") as output:
        try:
            process = subprocess.Popen(
                _command(address),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=output,
            )
        finally:
            theirs.close()
        channel = Channel(ours)
        try:
            yield channel
        except (Broken, OSError) as error:
            channel.close()
            process.wait()
            said = os.pread(output.fileno(), _MAX_OUTPUT, 0).decode(errors="replace")
            raise exception.MigrationError(
                reason=printable(f"ssh to {address}: {said.strip() or error}")
            ) from error
        finally:
            channel.close()
            process.wait()


def _command(address: str) -> list[str]:
    config = ["-F", CONF.docker.ssh_config] if CONF.docker.ssh_config else []
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return ["ssh", *config, *options, "--", address, "nova-docker-receive"]


def socket_path() -> pathlib.Path:
    """Return the path of the socket on which nova-compute receives servers."""
    return pathlib.Path(CONF.state_path, "docker-receive.sock")


@contextlib.contextmanager
def meeting() -> Iterator[tuple[str, Callable[[], socket.socket]]]:
    """Listen for the privileged daemon.

    :yields: the address that it must connect to, and a function that waits until it has
    """
    with (
        tempfile.TemporaryDirectory(prefix="nova-docker-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        address = f"{directory}/socket"
        listener.bind(address)
        listener.listen(1)
        listener.settimeout(_ACCEPT_SECONDS)

        def accept() -> socket.socket:
            accepted, _ = listener.accept()
            accepted.setblocking(True)
            return accepted

        yield address, accept
