# SPDX-License-Identifier: Apache-2.0
"""The connection to an engine as oslo.config options, and the client they describe.

The same options exist in nova.conf and, with a prefix, in Glance's configuration.
"""

from __future__ import annotations

from typing import Any

from oslo_config import cfg

from docker_engine.client import DockerClient
from docker_engine.transport.tls import TLSConfig


def connection_opts(
    prefix: str = "", *, peer: str = "the engine", host_help: str = ""
) -> list[cfg.Opt]:
    """Return the options of a connection.

    :param prefix: prefix of all option names
    :param peer: what presents the certificate, for the help texts
    :param host_help: additional help for the option ``host``
    """
    return [
        cfg.StrOpt(
            f"{prefix}host",
            default="unix:///var/run/docker.sock",
            help=f"""
Address of the Docker engine: ``unix:///path/to/docker.sock`` or
``tcp://address:port``.

Anyone with access to the Docker API is effectively root on that host. A
``tcp://`` engine is accessed with TLS unless ``{prefix}tls`` is off.
{host_help}
Related options: ``{prefix}tls``, ``{prefix}ca_file``, ``{prefix}cert_file``,
``{prefix}key_file``.
""",
        ),
        cfg.BoolOpt(
            f"{prefix}tls",
            default=True,
            help="""
Use TLS for a ``tcp://`` engine.

Turn this off only for an engine that listens on loopback, on a host without
other users.
""",
        ),
        cfg.BoolOpt(
            f"{prefix}tls_verify",
            default=True,
            help=f"""
Verify the certificate of {peer}.

It must be valid for the host name and be signed by ``{prefix}ca_file``, or if
that is not set, by an authority that is trusted by default.
""",
        ),
        cfg.StrOpt(
            f"{prefix}ca_file",
            help=f"Authority that signs the certificate of {peer} (PEM).",
        ),
        cfg.StrOpt(
            f"{prefix}cert_file",
            help="Client certificate (PEM).",
        ),
        cfg.StrOpt(
            f"{prefix}key_file",
            help=f"""
Private key of ``{prefix}cert_file`` (PEM). Not needed if that file contains it.
""",
        ),
        cfg.IntOpt(
            f"{prefix}connect_timeout",
            default=5,
            min=1,
            help="Seconds to wait for a connection.",
        ),
        cfg.IntOpt(
            f"{prefix}read_timeout",
            default=120,
            min=1,
            help="""
Seconds without a response after which a call fails.

The engine is silent, for example, while it removes a large container from a
slow disk or prepares an image for export. A call that stops a server also
waits for the server's grace period.
""",
        ),
    ]


def client(group: Any, prefix: str = "") -> DockerClient:
    """Return the client for the values of :func:`connection_opts`.

    :param group: the option group in which they are registered
    :raises ValueError: if ``host`` is not the address of an engine
    """

    def value(name: str) -> Any:
        return getattr(group, prefix + name)

    tls = None
    if value("tls") and value("host").startswith("tcp:"):
        tls = TLSConfig(
            ca_file=value("ca_file"),
            cert_file=value("cert_file"),
            key_file=value("key_file"),
            verify=value("tls_verify"),
        )
    return DockerClient(
        value("host"),
        tls=tls,
        connect_timeout=value("connect_timeout"),
        read_timeout=value("read_timeout"),
    )
