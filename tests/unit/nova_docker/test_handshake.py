# SPDX-License-Identifier: Apache-2.0
"""Connections to the console port before they request a console."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading

import pytest

from nova_docker import handshake

SECONDS = 10
HEADER = b"CONNECT /path HTTP/1.1\r\n\r\n"


@pytest.fixture
def port():
    """The address of a listener, and a queue of the requests that it gets."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = queue.Queue()

    def accept():
        for request in handshake.requests(listener):
            found.put(request)
        found.put(None)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname(), found
    listener.shutdown(socket.SHUT_RDWR)
    thread.join(SECONDS)
    assert not thread.is_alive()
    listener.close()
    while request := found.get():
        request.viewer.close()


@pytest.fixture
def connect(port):
    with contextlib.ExitStack() as connections:
        yield lambda: connections.enter_context(
            socket.create_connection(port[0], SECONDS)
        )


def was_closed(connection):
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    ("pieces", "typed"),
    [
        ([HEADER], b""),
        ([HEADER[:10], HEADER[10:-1], HEADER[-1:]], b""),
        ([HEADER + b"ls\r"], b"ls\r"),
    ],
)
def test_a_request_may_come_in_pieces_and_with_input(port, connect, pieces, typed):
    connection = connect()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        connection.sendall(piece)
    request = port[1].get(timeout=SECONDS)
    assert (request.header, request.typed) == (HEADER, typed)
    request.viewer.close()


def test_a_request_that_is_too_long_ends_the_connection(connect):
    connection = connect()
    connection.sendall(b"x" * 1024)
    assert was_closed(connection)


def test_a_late_request_ends_the_connection(connect, monkeypatch):
    monkeypatch.setattr(handshake, "SECONDS", 0)
    assert was_closed(connect())


def test_the_oldest_connection_is_displaced(port, connect, monkeypatch):
    monkeypatch.setattr(handshake, "MAX_WAITING", 2)
    first, second, third = connect(), connect(), connect()
    assert was_closed(first)
    for connection in third, second:
        connection.sendall(HEADER)
        port[1].get(timeout=SECONDS).viewer.close()


def test_a_request_that_has_arrived_is_not_displaced(port, connect, monkeypatch):
    monkeypatch.setattr(handshake, "MAX_WAITING", 1)
    for _ in range(20):
        connection = connect()
        connection.sendall(HEADER)
        connect()
        port[1].get(timeout=SECONDS).viewer.close()
