# SPDX-License-Identifier: Apache-2.0
"""Options of the store, in glance-api.conf, and of the sync, in its own file."""

from __future__ import annotations

from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter
from oslo_config import cfg

from docker_engine.client import DockerClient
from docker_engine.transport.tls import TLSConfig

engine_opts = [
    cfg.StrOpt(
        "docker_engine",
        default="local",
        help="""
What the engine is called in the locations of its images,
``docker://ENGINE/name:tag?…``. Each engine needs a name of its own; the store and
glance-docker-sync must call it the same.
""",
    ),
    cfg.StrOpt(
        "docker_host",
        default="unix:///var/run/docker.sock",
        help="""
Where the Docker engine listens: ``unix:///path/to/docker.sock`` or
``tcp://address:port``. Whoever can speak to an engine is root on its host.
""",
    ),
    cfg.BoolOpt("docker_tls", default=True, help="Speak TLS to a ``tcp://`` engine."),
    cfg.BoolOpt(
        "docker_tls_verify",
        default=True,
        help="""
Refuse an engine, or a registry, whose certificate is not signed by
``docker_ca_file`` (or, where that is not set, by an authority that the system
trusts) or is for another name.
""",
    ),
    cfg.StrOpt("docker_ca_file", help="Who signed its certificate (PEM)."),
    cfg.StrOpt(
        "docker_cert_file",
        help="Client certificate shown to the engine (PEM). Needs ``docker_key_file``.",
    ),
    cfg.StrOpt("docker_key_file", help="Private key of ``docker_cert_file`` (PEM)."),
    cfg.IntOpt(
        "docker_connect_timeout",
        default=5,
        min=1,
        help="Seconds to wait for a connection.",
    ),
    cfg.IntOpt(
        "docker_read_timeout",
        default=120,
        min=1,
        help="""
Seconds of silence after which a call is given up. An engine is silent while it
prepares an image that was asked for.
""",
    ),
]

store_opts = [
    *engine_opts,
    cfg.StrOpt(
        "docker_registry",
        help="""
``host`` or ``host:port`` of a registry, for a store of its images in place of an
engine's: ``docker://HOST:PORT/repository@sha256:…``. It is spoken to by HTTPS.
""",
    ),
    cfg.StrOpt(
        "docker_registry_auth_file",
        help="""
Credentials for ``docker_registry``, in the form of Docker's
``~/.docker/config.json``.
""",
    ),
    cfg.StrOpt(
        "docker_registry_architecture",
        default="amd64",
        help="""
Which of an image for several architectures Glance gives to who reads it, as Go
names it. Hosts that pull by themselves have their own.
""",
    ),
]


def engine(conf: Any) -> DockerClient:
    """Return the engine that options describe.

    :param conf: the group
    :raises ValueError: when ``docker_host`` is no engine's
    """
    tls = None
    if conf.docker_tls and conf.docker_host.startswith("tcp:"):
        tls = TLSConfig(
            ca_file=conf.docker_ca_file,
            cert_file=conf.docker_cert_file,
            key_file=conf.docker_key_file,
            verify=conf.docker_tls_verify,
        )
    return DockerClient(
        conf.docker_host,
        tls=tls,
        connect_timeout=conf.docker_connect_timeout,
        read_timeout=conf.docker_read_timeout,
    )


engine_group = cfg.OptGroup("engine", title="The engine whose images are listed")
sync_group = cfg.OptGroup("sync", title="What is listed, and for whom")
GLANCE_GROUP = "glance"

sync_opts = [
    cfg.StrOpt(
        "access",
        default="public",
        help="""
Who sees an image that has no ``rule``: ``public``, ``community``, ``private`` (the
project of this service alone), ``project:ID[,ID…]`` (these projects) or ``hidden``
(it is not in Glance at all).
""",
    ),
    cfg.MultiStrOpt(
        "rule",
        default=[],
        help="""
``PATTERN ACCESS``: who sees the images whose ``repository:tag`` has this pattern, as
of a shell. The first rule that a name has counts. May be given several times::

    rule = team-a/* project:0123456789abcdef0123456789abcdef
    rule = *:scratch hidden
""",
    ),
    cfg.IntOpt(
        "workers",
        default=4,
        min=1,
        help="How many calls to Glance there are at a time.",
    ),
    cfg.IntOpt(
        "refresh_interval",
        default=300,
        min=1,
        help="""
Seconds after which Glance is asked anew what it lists, so that what was changed
there is put right. What changes on the engine shows at once.
""",
    ),
]

_cli_opts = [
    cfg.BoolOpt("once", default=False, help="Compare once, and end."),
]


def register_sync_opts(conf: cfg.ConfigOpts) -> None:
    conf.register_cli_opts(_cli_opts)
    conf.register_opts(engine_opts, group=engine_group)
    conf.register_opts(sync_opts, group=sync_group)
    loading.register_session_conf_options(conf, GLANCE_GROUP)
    loading.register_auth_conf_options(conf, GLANCE_GROUP)
    loading.register_adapter_conf_options(conf, GLANCE_GROUP)
    conf.set_default("service_type", "image", GLANCE_GROUP)


def glance(conf: cfg.ConfigOpts) -> Adapter:
    """Return Glance as the service's own user sees it.

    :raises ValueError: when the options say too little
    """
    try:
        auth = loading.load_auth_from_conf_options(conf, GLANCE_GROUP)
        session = loading.load_session_from_conf_options(conf, GLANCE_GROUP, auth=auth)
    except exceptions.ClientException as error:
        raise ValueError(f"[{GLANCE_GROUP}]: {error}") from error
    if auth is None:
        raise ValueError(f"[{GLANCE_GROUP}] has no auth_type")
    adapter = loading.load_adapter_from_conf_options(
        conf, GLANCE_GROUP, session=session, auth=auth
    )
    # Paths are those of version 2, wherever the catalog points.
    adapter.min_version, adapter.max_version = "2", "2.latest"
    return adapter


def list_opts() -> list[tuple[cfg.OptGroup | str, list[Any]]]:
    """What the ``oslo.config.opts`` entry point shows of the sync."""
    return [
        (engine_group, engine_opts),
        (sync_group, sync_opts),
        (
            GLANCE_GROUP,
            [
                *loading.get_session_conf_options(),
                *loading.get_auth_common_conf_options(),
                *loading.get_adapter_conf_options(),
            ],
        ),
    ]


def list_store_opts() -> list[tuple[cfg.OptGroup | str, list[Any]]]:
    """What the ``oslo.config.opts`` entry point shows of the store.

    Its group is called as ``enabled_backends`` calls the store.
    """
    return [(engine_group, store_opts)]
