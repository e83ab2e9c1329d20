# SPDX-License-Identifier: Apache-2.0
"""Serial consoles: what is relayed, and to whom."""

from __future__ import annotations

import contextlib
import socket

import pytest
from nova import exception

from docker_engine.mock.client import MockDockerClient
from nova_docker import console
from nova_docker.console import SerialConsoles
from tests import archives
from tests import samples

UUID = samples.uuid()


@pytest.mark.parametrize(
    ("chunks", "typed", "size"),
    [
        ([b"ls\r"], b"ls\r", None),
        ([b"\x1b"], b"\x1b", None),
        ([b"\x1b[A\x1b[8~"], b"\x1b[A\x1b[8~", None),
        ([b"l\x1b[8;40;100ts\r"], b"ls\r", (40, 100)),
        ([b"\x1b[8;1;2t\x1b[8;3;4t"], b"", (3, 4)),
        ([b"a\x1b[8", b";40", b";", b"100tb"], b"ab", (40, 100)),
        ([b"a\x1b[8;4", b"~"], b"a\x1b[8;4~", None),
        ([b"\x1b[8;40000;1t"], b"\x1b[8;40000;1t", None),
    ],
)
def test_terminal_sizes_are_separated_from_input(chunks, typed, size):
    viewer_input = console.ViewerInput()
    taken = [viewer_input.take(chunk) for chunk in chunks]
    assert b"".join(part for part, _ in taken) == typed
    assert [found for _, found in taken if found] == ([size] if size else [])


@pytest.fixture
def client():
    mock = MockDockerClient()
    mock.load_image([archives.busybox_archive(tags=["image"])])
    mock.create_container(f"nova-{UUID}", {"Image": "image", "Labels": {}})
    return mock


@pytest.fixture
def consoles(client):
    made = SerialConsoles(client)
    yield made
    made.stop()


def connect(found, request=None):
    viewer = socket.create_connection((found.host, found.port), 20)
    request = request or f"CONNECT {found.internal_access_path} HTTP/1.1\r\n\r\n"
    viewer.sendall(request.encode())
    return viewer


def rest(viewer):
    """Return what a viewer sees until the session ends or is reset."""
    seen = b""
    with viewer, contextlib.suppress(ConnectionResetError):
        while chunk := viewer.recv(4096):
            seen += chunk
    return seen


def test_input_and_output_are_relayed(client, consoles):
    client.start_container(f"nova-{UUID}")
    with connect(consoles.console(UUID)) as viewer:
        viewer.sendall(b"hello")
        seen = b""
        while not seen.endswith(b"hello"):
            chunk = viewer.recv(100)
            assert chunk, seen
            seen += chunk
    assert seen == b"HTTP/1.1 200 OK\r\n\r\n\x1b[18thello"


@pytest.mark.parametrize(
    "request_text",
    [
        "\r\n\r\n",
        "CONNECT\r\n\r\n",
        "CONNECT / HTTP/1.1\r\n\r\n",
        "x" * 5000,
        "GET {path} HTTP/1.1\r\n\r\n",
        "CONNECT {path}0 HTTP/1.1\r\n\r\n",
    ],
)
def test_a_wrong_request_is_rejected(client, consoles, request_text):
    client.start_container(f"nova-{UUID}")
    found = consoles.console(UUID)
    viewer = connect(found, request_text.format(path=found.internal_access_path))
    assert b"200" not in rest(viewer)


def test_engine_errors_are_logged_but_not_shown_to_viewers(client, consoles, caplog):
    client.fail_next("inspect_container", RuntimeError("/secret/path"))
    seen = rest(connect(consoles.console(UUID)))
    assert seen.endswith(b"Console failed; see the nova-compute log.\r\n")
    assert "/secret/path" in caplog.text


def test_the_port_is_released(client, monkeypatch):
    monkeypatch.setattr("nova.console.serial.ALLOCATED_PORTS", set())
    monkeypatch.setattr("nova.console.serial._get_port_range", lambda: (28383, 28384))
    for _ in range(2):
        consoles = SerialConsoles(client)
        assert consoles.console(UUID).port == 28383
        with pytest.raises(exception.SocketPortRangeExhaustedException):
            SerialConsoles(client).console(UUID)
        consoles.stop()


@pytest.mark.parametrize(
    ("viewers", "uuid", "victim"),
    [
        ({"a": 3, "b": 1}, "c", "a"),
        ({"a": 3, "b": 1}, "b", "a"),
        ({"a": 3, "b": 1}, "a", None),
        ({"a": 2, "b": 1}, "b", None),
        ({"a": 2, "b": 2}, "c", "a"),
        ({"a": 1, "b": 1}, "c", None),
    ],
)
def test_the_server_with_the_most_viewers_gives_one_up(viewers, uuid, victim):
    assert console.displaced(viewers, uuid) == victim


def test_input_that_comes_with_the_request_is_not_lost(client, consoles):
    client.start_container(f"nova-{UUID}")
    found = consoles.console(UUID)
    path = found.internal_access_path
    with connect(found, f"CONNECT {path} HTTP/1.1\r\n\r\nhello") as viewer:
        seen = b""
        while not seen.endswith(b"hello"):
            chunk = viewer.recv(100)
            assert chunk, seen
            seen += chunk


def test_a_viewer_without_a_thread_is_not_counted(client, consoles, monkeypatch):
    client.start_container(f"nova-{UUID}")
    found = consoles.console(UUID)
    start = console._start
    failures = [RuntimeError("can't start new thread")]

    def fail_once(*arguments):
        if failures:
            raise failures.pop()
        return start(*arguments)

    monkeypatch.setattr(console, "_start", fail_once)
    monkeypatch.setattr(console.time, "sleep", lambda seconds: None)
    assert b"200" not in rest(connect(found))
    assert (consoles._threads, consoles._viewers) == (0, {})
    with connect(found) as viewer:
        assert viewer.recv(100).startswith(b"HTTP/1.1 200")
