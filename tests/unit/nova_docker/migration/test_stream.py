# SPDX-License-Identifier: Apache-2.0
"""Messages and data between two hosts: nothing incomplete is taken for complete."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading

import pytest

from nova_docker.migration import stream
from nova_docker.migration.stream import Broken
from nova_docker.migration.stream import Channel
from nova_docker.migration.stream import Refused

DATA = os.urandom(3 << 20)


@pytest.fixture
def pair():
    """Two channels that are connected."""
    left, right = map(Channel, socket.socketpair())
    yield left, right
    left.close()
    right.close()


@pytest.fixture
def raw():
    """A socket, and the channel at its other end."""
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    yield ours, channel
    ours.close()
    channel.close()


class Pipe:
    """A socket with something to read, or one that remembers what is written."""

    def __init__(self, data=b""):
        self._left = memoryview(data)
        self.written = bytearray()

    def settimeout(self, seconds):
        assert seconds

    def recv(self, size):
        part, self._left = self._left[:size], self._left[size:]
        return bytes(part)

    def sendall(self, data):
        self.written += data


def in_thread(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def encoded(*pieces, digest=None):
    whole = b"".join(pieces)
    framed = b"".join(struct.pack(">I", len(piece)) + piece for piece in pieces)
    end = hashlib.sha256(whole).digest() if digest is None else digest
    return framed + struct.pack(">I", 0) + end


def test_messages_arrive_one_by_one(pair):
    left, right = pair
    left.tell(version=1, text="line\nbreak")
    left.tell(done=True)
    assert right.hear() == {"version": 1, "text": "line\nbreak"}
    assert right.hear() == {"done": True}


@pytest.mark.parametrize("data", [b"", b"x", DATA], ids=["nothing", "a byte", "pieces"])
def test_data_arrives_and_a_message_after_it(pair, data):
    left, right = pair
    target = Pipe()

    def send():
        left.send_data(Pipe(data))
        left.tell(done=True)

    sending = in_thread(send)
    assert right.receive_data(target) == len(data)
    assert target.written == data
    assert right.hear() == {"done": True}
    sending.join()


def test_data_that_is_cut_off_anywhere_is_not_complete(raw):
    whole = encoded(b"abc", b"de")
    for end in range(len(whole)):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.sendall(whole[:end])
            ours.shutdown(socket.SHUT_WR)
            with pytest.raises(Broken, match="has ended"):
                Channel(theirs).receive_data(Pipe())


def test_data_with_another_hash_is_refused(raw):
    ours, channel = raw
    ours.sendall(encoded(b"abc", digest=b"\0" * 32))
    with pytest.raises(Broken, match="the hash that was sent"):
        channel.receive_data(Pipe())


def test_a_piece_that_is_too_long_is_refused(raw):
    ours, channel = raw
    ours.sendall(struct.pack(">I", 0xFFFFFFFF))
    with pytest.raises(Broken, match="a piece of 4294967295 bytes"):
        channel.receive_data(Pipe())


def test_data_is_not_complete_if_the_check_fails(pair):
    left, right = pair

    def check():
        raise OSError("tar has failed")

    with pytest.raises(OSError, match="tar has failed"):
        left.send_data(Pipe(b"abc"), check)
    left.close()
    with pytest.raises(Broken):
        right.receive_data(Pipe())


def test_what_is_not_allowed_is_not_written(raw):
    ours, channel = raw
    ours.sendall(encoded(b"abc", b"de"))
    target = Pipe()

    def allow(received):
        if received > 3:
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        channel.receive_data(target, allow)
    assert target.written == b"abc"


def test_a_refusal_is_printable(raw):
    ours, channel = raw
    ours.sendall(json.dumps({"error": "no\x1b[2J\n" + "x" * 9999}).encode() + b"\n")
    with pytest.raises(Refused, match=r"^no\\x1b\[2J\\nx+…$") as caught:
        channel.hear()
    assert len(str(caught.value)) <= 4096


@pytest.mark.parametrize(
    "line", [b"\n", b"[]\n", b"1\n", b"\xff\n", b"[" * 100_000 + b"\n"]
)
def test_what_is_no_message_is_refused(raw, line):
    ours, channel = raw
    in_thread(ours.sendall, line)
    with pytest.raises(Broken, match="not a message"):
        channel.hear()


def test_a_message_that_is_too_long_is_neither_sent_nor_received(raw, monkeypatch):
    monkeypatch.setattr(stream, "_MAX_MESSAGE", 100)
    ours, channel = raw
    with pytest.raises(Broken, match="a message of 112 bytes"):
        channel.tell(text="x" * 99)
    ours.sendall(b"x" * 200)
    with pytest.raises(Broken, match="more than 100 bytes"):
        channel.hear()


def test_silence_ends_the_wait(raw, monkeypatch):
    _ours, channel = raw
    with pytest.raises(Broken, match="silent"):
        channel.hear(0.05)
    monkeypatch.setattr(stream, "DATA_SECONDS", 0.05)
    with pytest.raises(Broken, match="silent"):
        channel.receive_data(Pipe())


def test_a_message_that_comes_byte_by_byte_does_not_delay_the_end(raw):
    ours, channel = raw
    ended = threading.Event()

    def drip():
        while not ended.wait(0.01):
            ours.sendall(b"x")

    thread = in_thread(drip)
    with pytest.raises(Broken, match="silent"):
        channel.hear(0.2)
    ended.set()
    thread.join()


def test_another_thread_can_end_the_wait(raw):
    _ours, channel = raw
    timer = threading.Timer(0.05, channel.abort)
    timer.start()
    with pytest.raises(Broken, match="has ended"):
        channel.hear()
