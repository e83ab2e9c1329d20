# SPDX-License-Identifier: Apache-2.0
"""requests sessions that can reach an engine, by unix socket or TCP."""

from __future__ import annotations

import functools
import io
import socket
import ssl
from collections.abc import Callable
from http import client as http_client
from typing import Any
from urllib import parse

import requests
import requests_unixsocket
import urllib3
from requests_unixsocket import adapters

from docker_engine.transport import tls_stream
from docker_engine.transport.tls import TLSConfig

# Notice within two minutes that the host of a silent engine is gone.
_SOCKET_OPTIONS: list[tuple[int, int, int | bytes]] = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
]


def base_url(host: str, tls: TLSConfig | None) -> str:
    """Return the URL of an engine, without a path.

    :param host: ``unix:///path`` or ``tcp://address:port``
    :raises ValueError: if ``host`` is neither, or a unix socket is to use TLS
    """
    scheme, _, rest = host.partition("://")
    if scheme == "unix" and tls:
        raise ValueError(f"TLS is for tcp:// engines: {host!r} is a unix socket")
    if scheme == "unix" and rest:
        return f"http+unix://{parse.quote(rest, safe='')}"
    if scheme == "tcp" and rest:
        return f"{'https' if tls else 'http'}://{rest.rstrip('/')}"
    raise ValueError(
        f"not an engine address: {host!r}; use unix:///path or tcp://address:port"
    )


def new_session(tls: TLSConfig | None) -> requests.Session:
    """Return a session for the URLs of :func:`base_url`; not for several threads."""
    session = requests_unixsocket.Session()
    session.mount("http+unix://", _UnixAdapter())
    session.mount("http://", _TCPAdapter())
    session.mount("https://", _TCPAdapter())
    # Proxies and .netrc of the environment are for web sites, not for an engine.
    session.trust_env = False
    if tls:
        session.verify = tls.requests_verify
        session.cert = tls.requests_cert
    return session


class _UnixAdapter(adapters.UnixAdapter):
    """Keeps one connection pool per socket; its base class keeps one per URL."""

    def get_connection(self, url: str, proxies: Any = None) -> Any:
        parts = parse.urlsplit(url)
        return super().get_connection(f"{parts.scheme}://{parts.netloc}", proxies)


class _TCPAdapter(requests.adapters.HTTPAdapter):
    """Sets the options of sockets."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, socket_options=_SOCKET_OPTIONS)


def new_hijack_session(tls: TLSConfig | None) -> requests.Session:
    """Return a session for a call that turns its connection into a two-way stream.

    Of its connections, nothing is read after the header of status 101. Whatever uses
    TLS, their descriptor belongs to a plain socket (:mod:`.tls_stream`).

    :raises OSError: if a file of ``tls`` is missing or malformed
    """
    session = new_session(tls)
    session.mount("http+unix://", _HijackAdapter(_UnixConnection))
    session.mount("http://", _HijackAdapter(_TCPConnection))
    if tls:
        connection = functools.partial(_TLSConnection, context=tls.context())
        session.mount("https://", _HijackAdapter(connection))
    return session


class _HijackAdapter(adapters.UnixAdapter):
    """Makes a connection for each call.

    :param connection: makes it, from the parts of the URL
    """

    def __init__(self, connection: Callable[[parse.SplitResult], Any]) -> None:
        super().__init__()
        self._connection = connection

    def get_connection(self, url: str, proxies: Any = None) -> Any:
        return _Pool(self._connection, parse.urlsplit(url))


class _Pool(urllib3.HTTPConnectionPool):
    def __init__(
        self, connection: Callable[[parse.SplitResult], Any], url: parse.SplitResult
    ) -> None:
        super().__init__("localhost")
        self._connection = functools.partial(connection, url)

    def _new_conn(self) -> Any:
        return self._connection()


class _Unbuffered(http_client.HTTPResponse):
    """Leaves what follows the header of status 101 in the socket."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp: Any = sock.makefile("rb", buffering=0)

    def begin(self) -> None:
        super().begin()
        if self.status != http_client.SWITCHING_PROTOCOLS:
            self.fp = io.BufferedReader(self.fp)


class _UnixConnection(adapters.UnixHTTPConnection):
    response_class = _Unbuffered

    def __init__(self, url: parse.SplitResult) -> None:
        super().__init__(url.geturl())


class _TCPConnection(urllib3.connection.HTTPConnection):
    response_class = _Unbuffered

    def __init__(self, url: parse.SplitResult) -> None:
        super().__init__(
            url.hostname or "",
            url.port or (443 if url.scheme == "https" else 80),
            socket_options=_SOCKET_OPTIONS,
        )


class _TLSConnection(_TCPConnection):
    """Speaks plain HTTP, on a socket whose data goes through TLS."""

    def __init__(self, url: parse.SplitResult, context: ssl.SSLContext) -> None:
        super().__init__(url)
        self._context = context

    def connect(self) -> None:
        super().connect()
        self.sock = tls_stream.wrap(self.sock, self._context, self.host, self.timeout)
