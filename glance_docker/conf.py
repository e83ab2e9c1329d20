# SPDX-License-Identifier: Apache-2.0
"""Options of the store, in glance-api.conf, and of the sync, in its own file."""

from __future__ import annotations

from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter
from oslo_config import cfg

from docker_engine.client import DockerClient
from docker_engine.options import client
from docker_engine.options import connection_opts

_PREFIX = "docker_"

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
    *connection_opts(_PREFIX, peer="the engine or registry"),
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


def engine(group: Any) -> DockerClient:
    """Return the client of the engine that options describe.

    :param group: values of :data:`engine_opts`
    :raises ValueError: if ``docker_host`` is not the address of an engine
    """
    return client(group, _PREFIX)


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
