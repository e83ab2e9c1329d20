# SPDX-License-Identifier: Apache-2.0
"""Streams of JSON objects: events, and the progress of long calls."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from typing import Self
from urllib import parse

import requests

from docker_engine import errors
from docker_engine.transport.http import interrupted


class EventStream(Iterator[dict[str, Any]]):
    """The engine's events as they happen.

    The iteration ends when :meth:`close` is called, from any thread.

    :raises Unreachable: from the iteration, if the connection is lost
    """

    def __init__(self, answer: requests.Response) -> None:
        self._answer = answer
        self._events = json_lines(answer)
        self._closed = False
        # A duplicate, because requests closes its socket at the end of the response. It
        # is below TLS, but only ever shut down.
        self._socket = socket.socket(fileno=os.dup(answer.raw.fileno()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __next__(self) -> dict[str, Any]:
        try:
            event = None if self._closed else next(self._events, None)
        except errors.DockerError:
            if not self._closed:
                raise
            event = None
        if event is not None:
            return event
        if self._closed:
            raise StopIteration
        raise errors.Unreachable("the engine ended its event stream")

    def close(self) -> None:
        """End the iteration, even if another thread is waiting in it."""
        self._closed = True
        with contextlib.suppress(OSError), self._socket:
            # Closing alone would wait for the other thread's read to return.
            self._socket.shutdown(socket.SHUT_RDWR)
        # A green thread cannot be waited for while it reads. Its read fails now,
        # and that closes the answer.
        with contextlib.suppress(RuntimeError):
            self._answer.close()


def json_lines(answer: requests.Response) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects of a response, one per line, as each is complete.

    :raises Unreachable: if the connection is lost
    """
    pending = b""
    chunks = answer.iter_content(None)  # whatever has arrived, without waiting
    while True:
        try:
            chunk = next(chunks, None)
        # The last two come from reading what another thread has closed.
        except (OSError, AttributeError, ValueError) as error:
            raise interrupted(parse.unquote(answer.url), error) from error
        if chunk is None:
            break
        *lines, pending = (pending + chunk).split(b"\n")
        yield from (json.loads(line) for line in lines if line.strip())
    if pending.strip():
        yield json.loads(pending)


def progress(answer: requests.Response) -> list[dict[str, Any]]:
    """Read the progress messages of a call to their end.

    :raises EngineError: if a message reports that the call failed
    """
    messages = []
    with contextlib.closing(answer):
        for message in json_lines(answer):
            if "error" in message:
                raise errors.EngineError(message["error"], answer.status_code)
            messages.append(message)
    return messages
