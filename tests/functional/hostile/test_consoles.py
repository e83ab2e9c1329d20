# SPDX-License-Identifier: Apache-2.0
"""Strangers at the console port, hostile viewers and hostile servers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import psutil
import pytest
from nova import exception

from docker_engine import errors
from nova_docker import console
from nova_docker import handshake
from nova_docker import password
from nova_docker import terminal
from nova_docker.console import SerialConsoles
from nova_docker.container import naming
from nova_docker.container import state
from nova_docker.guest import Guest
from tests import archives
from tests import samples
from tests.attacks import attack
from tests.conftest import IMAGE
from tests.functional.host import eventually

SECONDS = 20
FOREVER = ["/bin/busybox", "sleep", "100000"]
# A program that takes a console's commands and answers none of them
SILENT = b"#!/bin/busybox sh\nexec /bin/busybox sleep 100000\n"
ESCAPES = "\x1b]0;forged\x07\x1b[2J\r\nERROR nova.compute.manager forged"


@pytest.fixture
def client(engine):
    return engine.client


@pytest.fixture
def consoles(client):
    consoles = SerialConsoles(client)
    yield consoles
    consoles.stop()
    assert eventually(lambda: not sessions())


@pytest.fixture
def image(client):
    """Loads an image with some files; returns its name."""
    names = []

    def load(files):
        name = f"nova-docker-hostile:{len(names)}"
        client.load_image([archives.busybox_archive(tags=[name], files=files)])
        names.append(name)
        return name

    yield load
    for name in names:
        client.remove_image(name)


@pytest.fixture
def start(client, image):
    """Starts a server; returns its UUID."""
    with contextlib.ExitStack() as servers:

        def run(image=IMAGE, command=("sh",)):
            uuid = samples.uuid()
            name = naming.name_of(uuid)
            client.create_container(
                name,
                {
                    "Image": image,
                    "Entrypoint": list(command),
                    "Tty": True,
                    "OpenStdin": True,
                    "HostConfig": {"NetworkMode": "none", "PidsLimit": 200},
                },
            )
            servers.callback(client.remove_container, name)
            client.start_container(name)
            return uuid

        yield run


@pytest.fixture
def connect(consoles):
    """Connects to the port, as anyone can who reaches it."""
    with contextlib.ExitStack() as connections:

        def open_connection():
            found = consoles.console(samples.uuid())
            return connections.enter_context(
                socket.create_connection((found.host, found.port), SECONDS)
            )

        yield open_connection


@pytest.fixture
def view(consoles, connect):
    """Opens a console as nova-serialproxy does."""

    def open_console(uuid):
        viewer = connect()
        path = consoles.console(uuid).internal_access_path
        viewer.sendall(f"CONNECT {path} HTTP/1.1\r\n\r\n".encode())
        return viewer

    return open_console


def shown(viewer, expected):
    seen = b""
    while expected not in seen:
        chunk = viewer.recv(65536)
        assert chunk, seen
        seen += chunk
    return seen


def rest(viewer):
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: viewer.recv(65536), b""))
    return b""


def works(viewer):
    """Return how many seconds a console takes to answer."""
    began = time.monotonic()
    viewer.sendall(b"echo $((40 + 2))\n")
    shown(viewer, b"\r\n42\r\n")
    return time.monotonic() - began


def is_open(sock):
    sock.setblocking(False)
    try:
        return sock.recv(1) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def sessions():
    """Return the threads of consoles, without the one that accepts connections."""
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == "docker-console" and "_serve" in thread._target.__qualname__
    ]


@attack(
    "A slow request at the console port",
    tried="Connections sent one byte of a request after the other, to keep a thread "
    "and a descriptor of nova-compute for hours",
    held_by="A connection has ten seconds for its whole request, and no thread",
)
def test_a_slow_request_ends_in_time(start, connect, view, monkeypatch):
    monkeypatch.setattr(handshake, "SECONDS", 1)
    uuid = start()
    slow = [connect() for _ in range(20)]
    ended = time.monotonic() + 1.5
    while time.monotonic() < ended:
        for connection in slow:
            with contextlib.suppress(OSError):
                connection.send(b"x")
        time.sleep(0.05)
    assert not sessions()
    assert not any(map(is_open, slow))
    assert works(view(uuid)) < SECONDS


@attack(
    "Many connections to the console port",
    tried="Four hundred connections to the port stayed open and silent",
    held_by="Of connections that have not shown a valid path, 64 may wait; a new one "
    "displaces the oldest, and a viewer is admitted at once",
)
def test_silent_connections_are_displaced(start, connect, view):
    uuid = start()
    silent = [connect() for _ in range(400)]
    began = time.monotonic()
    assert works(view(uuid)) < handshake.SECONDS
    assert sum(map(is_open, silent)) <= 64
    assert len(sessions()) == 1
    assert time.monotonic() - began < handshake.SECONDS


@attack(
    "A flood of the console port",
    tried="Two threads opened connections as fast as they could while viewers of a "
    "server connected",
    held_by="Requests that have arrived are read before new connections are accepted, "
    "so a flood does not displace nova-serialproxy",
)
def test_viewers_are_admitted_during_a_flood(start, connect, view, consoles):
    uuid = start()
    found = consoles.console(uuid)
    over = threading.Event()
    opened = []

    def flood():
        while not over.is_set():
            with contextlib.suppress(OSError):
                opened.append(None)
                socket.create_connection((found.host, found.port), 1).close()

    threads = [threading.Thread(target=flood) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert works(view(uuid)) < handshake.SECONDS
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert len(opened) > 2 * handshake.MAX_WAITING


@attack(
    "All console sessions of a host",
    tried="The viewers of one server took all sessions that the host allows, and a "
    "viewer of another server connected",
    held_by="Sessions are shared fairly among servers: the server with the most "
    "viewers loses its oldest one",
)
def test_one_server_cannot_take_all_sessions(start, view, monkeypatch):
    monkeypatch.setattr(console, "MAX_SESSIONS", 8)
    hostile, neighbour = start(), start()
    viewers = [view(hostile) for _ in range(8)]
    for viewer in viewers:
        shown(viewer, terminal.ASK_SIZE)
    # It has its share, so it gets no more.
    assert b"Too many consoles" in rest(view(hostile))
    assert works(view(neighbour)) < SECONDS
    assert eventually(lambda: sum(map(is_open, viewers)) == 7)
    assert not is_open(viewers[0])
    assert eventually(lambda: len(sessions()) == 8)


@attack(
    "Commands that pile up on the engine",
    tried="An image whose shell never answers and never ends: its console was opened "
    "again and again, and its password set",
    held_by="No command is started in a container in which 64 still run, and a shell "
    "that stays is told to end only once",
)
def test_shells_that_never_answer_do_not_pile_up(
    client, start, image, view, monkeypatch
):
    monkeypatch.setattr(state, "MAX_EXECS", 6)
    monkeypatch.setattr(terminal, "_START_SECONDS", 0.2)
    uuid = start(image({"bin/sh": SILENT}), FOREVER)
    name = naming.name_of(uuid)
    answers = []
    for _ in range(8):
        viewer = view(uuid)
        answers.append(shown(viewer, b"\r\n\r\n"))
        viewer.settimeout(1)
        with contextlib.suppress(TimeoutError):
            answers.append(viewer.recv(1000))
        viewer.close()
    assert b"Too many commands" in answers[-1]
    execs = client.inspect_container(name)["ExecIDs"]
    assert 6 <= len(execs) <= 8
    instance = samples.instance(uuid=uuid)
    with pytest.raises(exception.InvalidInput, match="too many commands"):
        password.change(Guest(client, instance), instance, "secret")
    assert {*client.inspect_container(name)["ExecIDs"]} == {*execs}


@attack(
    "Output that nobody reads",
    tried="Six viewers of a first process and six of shells did not read what "
    "endless commands wrote",
    held_by="At most 1.25 MiB wait for a viewer: a shared terminal drops output, a "
    "shell waits",
)
def test_output_that_nobody_reads_takes_little_memory(start, view, monkeypatch):
    # The pauses alone would hide for a while that nothing else bounds it.
    monkeypatch.setattr(console, "_PAUSE_SECONDS", 0)
    shared, service = start(), start(command=FOREVER)
    process = psutil.Process()
    viewers = [view(uuid) for uuid in (shared, service) for _ in range(6)]
    for viewer in viewers:
        shown(viewer, terminal.ASK_SIZE)
    before = process.memory_info().rss
    for viewer in viewers[0], *viewers[6:]:
        viewer.sendall(b"cat /dev/zero\n")
    time.sleep(3)
    assert process.memory_info().rss - before < 32 * 2**20
    for viewer in viewers:
        viewer.close()
    assert eventually(lambda: not sessions())


@attack(
    "A flood of terminal sizes",
    tried="A viewer reported another size of its terminal a thousand times",
    held_by="A session sets the size at most ten times a second, the last one reported",
)
def test_sizes_do_not_flood_the_engine(client, start, view, monkeypatch):
    uuid = start()
    calls = []
    resize = client.resize_container
    monkeypatch.setattr(
        client, "resize_container", lambda *args: (calls.append(args), resize(*args))
    )
    viewer = view(uuid)
    shown(viewer, terminal.ASK_SIZE)
    began = time.monotonic()
    for n in range(1000):
        viewer.sendall(b"\x1b[8;%d;80t" % (20 + n % 20))
        time.sleep(0.002)
    took = time.monotonic() - began
    assert works(viewer) < SECONDS
    assert 1 <= len(calls) <= took / console._RESIZE_PAUSE_SECONDS + 2


@attack(
    "Escape sequences for the operator's terminal",
    tried="An image's chpasswd wrote escape sequences and a forged log line, and its "
    "command's name had them, so that the engine quotes it",
    held_by="Error messages escape control characters and quote no more than a part",
)
def test_error_messages_have_no_control_characters(client, start, image):
    program = f"#!/bin/busybox sh\nprintf '%s' '{ESCAPES}'\nexit 1\n"
    uuid = start(image({"bin/chpasswd": program.encode()}))
    instance = samples.instance(uuid=uuid)
    with pytest.raises(exception.InstancePasswordSetFailed, match="forged") as set_:
        password.change(Guest(client, instance), instance, "secret")
    with pytest.raises(errors.DockerError, match="forged") as started:
        start(command=[f"/{ESCAPES}"])
    for caught in set_, started:
        assert str(caught.value).isprintable(), str(caught.value)
        assert len(str(caught.value)) < 5000
