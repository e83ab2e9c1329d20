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
from concurrent import futures

from nova import conf as nova_conf
from nova import exception

from docker_engine.printable import printable
from nova_docker.migration.stream import Broken
from nova_docker.migration.stream import Channel

CONF = nova_conf.CONF

_MAX_OUTPUT = 1000  # bytes
_ACCEPT_SECONDS = 60
_END_SECONDS = 20
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
            _end(process)
            said = os.pread(output.fileno(), _MAX_OUTPUT, 0).decode(errors="replace")
            reasons = "; ".join(filter(None, (said.strip(), str(error))))
            raise exception.MigrationError(
                reason=printable(f"ssh to {address}: {reasons}")
            ) from error
        finally:
            channel.close()
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait until ssh has ended, which the other host may delay for ever."""
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _command(address: str) -> list[str]:
    config = ["-F", CONF.docker.ssh_config] if CONF.docker.ssh_config else []
    options = [word for option in _OPTIONS for word in ("-o", option)]
    return ["ssh", *config, *options, "--", address, "nova-docker-receive"]


def socket_path() -> pathlib.Path:
    """Return the path of the socket on which nova-compute receives servers."""
    return pathlib.Path(CONF.state_path, "docker-receive.sock")


@contextlib.contextmanager
def meeting(
    work: Callable[[str], None],
) -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """Exchange data with a function that runs in the privileged daemon.

    It has ended after the block.

    :param work: gets the address of a unix socket, and must connect to it
    :yields: the connection, and a function that waits until the work has ended and
        raises what it has raised
    :raises Exception: what the work has raised, instead of the error of a connection
        that it has closed because of it
    """
    with (
        tempfile.TemporaryDirectory(prefix="nova-docker-") as directory,
        socket.socket(socket.AF_UNIX) as listener,
        futures.ThreadPoolExecutor(1) as pool,
    ):
        address = f"{directory}/socket"
        listener.bind(address)
        listener.listen(1)
        working = pool.submit(work, address)
        try:
            with _accepted(listener, working) as stream:
                yield stream, working.result
        except (BrokenPipeError, ConnectionResetError):
            working.result()
            raise


def _accepted(listener: socket.socket, working: futures.Future[None]) -> socket.socket:
    """Wait for a connection, while the one that makes it works.

    :raises TimeoutError: if there is none
    :raises Exception: what the other one has raised
    """
    listener.settimeout(1)
    for _ in range(_ACCEPT_SECONDS):
        with contextlib.suppress(TimeoutError):
            return listener.accept()[0]
        if working.done():
            working.result()
            break
    raise TimeoutError("the privileged daemon does not answer")
