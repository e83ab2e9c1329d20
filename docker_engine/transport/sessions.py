# SPDX-License-Identifier: Apache-2.0
"""requests sessions that can reach an engine, by unix socket or TCP."""

from __future__ import annotations

import socket
from typing import Any
from urllib import parse

import requests
import requests_unixsocket
from requests_unixsocket import adapters

from docker_engine.transport.tls import TLSConfig


def base_url(host: str, tls: TLSConfig | None) -> str:
    """Return the URL of an engine, without a path.

    :param host: ``unix:///path`` or ``tcp://address:port``
    :raises ValueError: if ``host`` is neither
    """
    scheme, _, rest = host.partition("://")
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
    """Notices within two minutes that the host of a silent engine is gone."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        kwargs["socket_options"] = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 20),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
        ]
        super().init_poolmanager(*args, **kwargs)
