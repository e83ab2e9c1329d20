# SPDX-License-Identifier: Apache-2.0
"""Calls to an engine: versions, retries, timeouts, errors and the debug log."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from http import client as http_client
from typing import Any
from urllib import parse

import requests
from requests import exceptions as http

from docker_engine import errors
from docker_engine.transport import sessions
from docker_engine.transport.root_cause import root_cause
from docker_engine.transport.tls import TLSConfig

LOG = logging.getLogger(__name__)

# Docker 20.10 and 28: the oldest and the newest engine that this is tested with.
MIN_API_VERSION = "1.41"
MAX_API_VERSION = "1.51"

# Attempts at a call that may be repeated when the engine closes the connection.
_TRIES = 3

# Seconds for which an engine may be silent while it unpacks an image or writes the
# memory of a container.
LONG_TIMEOUT = 1800


class Transport:
    """The HTTP connection to one engine. May be used from several threads.

    Every method raises :class:`errors.DockerError` or one of its subclasses.
    """

    def __init__(
        self,
        host: str,
        *,
        tls: TLSConfig | None,
        connect_timeout: float,
        read_timeout: float,
    ) -> None:
        """
        :param host: ``unix:///path`` or ``tcp://address:port``
        :param tls: for ``tcp://``; None for plain HTTP
        :param connect_timeout: seconds
        :param read_timeout: seconds of silence
        :raises ValueError: if ``host`` is malformed
        """
        self._host = host
        self._base = sessions.base_url(host, tls)
        self._tls = tls
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        # A requests session must not be shared between threads.
        self._local = threading.local()
        self._version: str | None = None

    @property
    def api_version(self) -> str:
        """The API version of all calls, negotiated by the first one.

        :raises UnsupportedVersion: if engine and client have none in common
        """
        # Two threads that negotiate at the same time get the same result.
        if self._version is None:
            self._version = _agree(self.get("/version", versioned=False))
        return self._version

    def get(
        self, path: str, query: Mapping[str, str] | None = None, **options: Any
    ) -> Any:
        """Make a GET call and return the JSON of the response; see :meth:`request`."""
        return parsed(self.request("GET", path, query, **options))

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        missing: type[errors.NotFound] = errors.NotFound,
        versioned: bool = True,
        repeat: bool = True,
        timeout: tuple[float, float | None] | None = None,
        session: requests.Session | None = None,
        **request: Any,
    ) -> requests.Response:
        """Make a call.

        :param path: without the version
        :param missing: the error to raise for status 404
        :param versioned: whether the path gets the API version as a prefix
        :param repeat: whether to repeat the call if the connection is lost
        :param timeout: seconds for connecting and for reading; None for the usual
        :param session: None for the session of this thread
        :param request: more arguments of ``requests.Session.request``
        """
        if versioned:
            path = f"/v{self.api_version}{path}"
        tries_left = _TRIES if repeat else 1
        while True:
            tries_left -= 1
            began = time.monotonic()
            outcome: object = "aborted"
            try:
                answer = (session or self._session()).request(
                    method,
                    self._base + path,
                    params=query,
                    timeout=timeout or (self.connect_timeout, self.read_timeout),
                    allow_redirects=False,
                    **request,
                )
                outcome = answer.status_code
            # Files of TLSConfig that do not exist raise OSError as well.
            except OSError as error:
                outcome = type(root_cause(error)).__name__
                if not tries_left or not _was_dropped(error):
                    call = f"{self._host}: {method} {path}"
                    raise translated(call, error) from error
            else:
                return _checked(answer, missing)
            finally:
                _log(method, path, query, outcome, began)

    def stream(
        self, method: str, path: str, query: Mapping[str, str], **options: Any
    ) -> requests.Response:
        """Make a call whose response is streamed, on a separate connection.

        Another thread may close the stream. Its connection must not return to a pool,
        where another call may already use it.
        """
        return self.request(
            method, path, query, stream=True, session=self._new_session(), **options
        )

    def hijack(
        self, path: str, query: Mapping[str, str] | None = None, **options: Any
    ) -> socket.socket:
        """Make a POST call that turns its connection into a two-way stream.

        :returns: a plain socket, with TLS, too; its data goes through TLS. It can be
            shut down for writing, and still be read
        """
        try:
            session = sessions.new_hijack_session(self._tls)
        except OSError as error:
            raise translated(f"{self._host}: POST {path}", error) from error
        answer = self.request(
            "POST",
            path,
            query,
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            repeat=False,
            stream=True,
            session=session,
            **options,
        )
        with contextlib.closing(answer):
            if answer.status_code != http_client.SWITCHING_PROTOCOLS:
                raise errors.EngineError(
                    f"{self._host}: POST {path}: the engine did not turn the "
                    "connection into a stream",
                    answer.status_code,
                )
            stream = socket.socket(fileno=os.dup(answer.raw.fileno()))
        family = stream.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN)
        if self._tls and family != socket.AF_UNIX:
            # Never hand out the socket beneath TLS: its user would write in clear.
            stream.close()
            raise errors.EngineError(f"{self._host}: POST {path}: not a TLS stream")
        stream.setblocking(True)
        return stream

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = self._new_session()
        return self._local.session

    def _new_session(self) -> requests.Session:
        return sessions.new_session(self._tls)


def parsed(answer: requests.Response) -> Any:
    """Return the JSON of a response.

    :raises EngineError: if it is not JSON
    """
    try:
        return answer.json()
    except ValueError as error:
        raise errors.EngineError(
            f"{parse.unquote(answer.url)} is not an Engine API: response is not JSON",
            answer.status_code,
        ) from error


def translated(call: str, error: Exception) -> errors.DockerError:
    """Return the error for a failed connection.

    :param call: what failed, for the message
    """
    root = root_cause(error)
    if isinstance(error, http.ConnectTimeout):
        return errors.Unreachable(f"{call}: connecting timed out")
    if isinstance(error, http.ReadTimeout) or isinstance(root, TimeoutError):
        return errors.Timeout(f"{call}: the engine did not answer in time")
    if isinstance(root, PermissionError):
        return errors.Forbidden(
            f"{call}: {root}: add this user to the group that owns the engine's "
            "socket, and let it read the TLS files"
        )
    return errors.Unreachable(f"{call}: {root}")


def interrupted(call: str, error: Exception) -> errors.DockerError:
    """Return the error for a response that broke off while it was read.

    :param call: what was read, for the message
    """
    if isinstance(root_cause(error), OSError):
        return translated(call, error)
    # The HTTP libraries only say what they could not parse.
    return errors.Unreachable(f"{call}: the engine closed the connection")


def _agree(engine: Mapping[str, Any]) -> str:
    newest = engine.get("ApiVersion", "0")
    oldest = engine.get("MinAPIVersion", newest)
    chosen = min(newest, MAX_API_VERSION, key=_as_numbers)
    if _as_numbers(chosen) < max(_as_numbers(oldest), _as_numbers(MIN_API_VERSION)):
        raise errors.UnsupportedVersion(
            f"Docker {engine.get('Version')} supports API versions {oldest} to "
            f"{newest}, this client supports {MIN_API_VERSION} to {MAX_API_VERSION}"
        )
    return chosen


def _as_numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _checked(
    answer: requests.Response, missing: type[errors.NotFound]
) -> requests.Response:
    # 304 means that the object is already in the state asked for.
    if answer.status_code < 300 or answer.status_code == 304:
        return answer
    with contextlib.closing(answer):
        try:
            message = answer.json()["message"]
        except (ValueError, KeyError, TypeError):
            message = answer.text.strip() or answer.reason
        except OSError:
            # The response broke off after its status, which is what counts.
            message = answer.reason
    raise errors.for_status(answer.status_code, message, missing=missing)


def _was_dropped(error: OSError) -> bool:
    """Return whether an established connection was lost."""
    return isinstance(root_cause(error), ConnectionResetError | BrokenPipeError)


def _log(
    method: str,
    path: str,
    query: Mapping[str, str] | None,
    outcome: object,
    began: float,
) -> None:
    if LOG.isEnabledFor(logging.DEBUG):
        url = f"{path}?{parse.urlencode(query)}" if query else path
        milliseconds = (time.monotonic() - began) * 1000
        LOG.debug("%s %s: %s after %.0f ms", method, url, outcome, milliseconds)
