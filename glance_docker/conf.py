# SPDX-License-Identifier: Apache-2.0
"""Options of the store in glance-api.conf, and of glance-docker-sync."""

from __future__ import annotations

from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1 import loading
from keystoneauth1.adapter import Adapter
from oslo_concurrency.opts import list_opts as lock_opts
from oslo_config import cfg

from docker_engine.client import DockerClient
from docker_engine.options import client
from docker_engine.options import connection_opts

_PREFIX = "docker_"

_name_opt = cfg.StrOpt(
    "docker_engine",
    default="local",
    help="""
Name of the engine in the locations of its images,
``docker://ENGINE/name:tag?…``.

It must be unique among engines, and be the same in the configuration of the
store and of glance-docker-sync.
""",
)

_exports_opt = cfg.IntOpt(
    "docker_exports",
    default=4,
    min=1,
    help="""
Number of images that the engine exports at the same time. The engine writes
each of them to its disk before it sends it.

The store leaves one of them to glance-docker-sync, unless this is 1. Processes of
a host count together if ``[oslo_concurrency]lock_path`` names the same directory
in their configuration, and otherwise each for itself. Give this option the same
value in the configuration of the store and of glance-docker-sync.
""",
)

engine_opts = [_name_opt, *connection_opts(_PREFIX), _exports_opt]

store_opts = [
    _name_opt,
    *connection_opts(_PREFIX, peer="the engine or registry"),
    _exports_opt,
    cfg.IntOpt(
        "docker_export_wait",
        default=10,
        min=0,
        help="""
Seconds that a download of an engine's image waits while ``docker_exports``
others are running. Glance then answers 503.
""",
    ),
    cfg.IntOpt(
        "docker_export_rate",
        default=512,
        min=1,
        help="""
Average rate, in KiB/s, that a download of an engine's image must reach after its
first minute.

A slower download is broken off, because it keeps the engine from exporting other
images.
""",
    ),
    cfg.StrOpt(
        "docker_registry",
        help="""
Registry whose images the store serves instead of an engine's images:
``host`` or ``host:port``.

The store reads the registry over HTTPS. The locations of its images are
``docker://HOST:PORT/repository@sha256:…``.
""",
    ),
    cfg.StrOpt(
        "docker_registry_auth_file",
        help="""
File with credentials for ``docker_registry``, in the format of Docker's
``~/.docker/config.json``.
""",
    ),
    cfg.StrOpt(
        "docker_registry_architecture",
        default="amd64",
        help="""
Architecture (GOARCH name) that Glance serves from multi-platform images.

Hosts that pull images from the registry themselves use their own
architecture.
""",
    ),
]


def engine(group: Any) -> DockerClient:
    """Return the client of the engine that options describe.

    :param group: values of :data:`engine_opts`
    :raises ValueError: if ``docker_host`` is not the address of an engine
    """
    return client(group, _PREFIX)


engine_group = cfg.OptGroup("engine", title="The engine whose images Glance lists")
sync_group = cfg.OptGroup("sync", title="Which images Glance lists, and for whom")
GLANCE_GROUP = "glance"

sync_opts = [
    cfg.StrOpt(
        "access",
        default="hidden",
        help="""
Who can see an image that no ``rule`` matches: ``public``, ``community``,
``private`` (only the project of this service), ``project:ID[,ID…]`` (these
projects and that of this service) or ``hidden`` (Glance does not list it).

An engine may have images that are not meant for this cloud: by default, Glance
lists only those that a ``rule`` names. If this option is not set, the service does
not start while Glance lists an image that the default would remove.
""",
    ),
    cfg.MultiStrOpt(
        "rule",
        default=[],
        help="""
Who can see the images whose ``repository:tag`` matches a shell pattern, in
the form ``PATTERN ACCESS``.

The option may be given several times. The first rule that matches an image
applies. ``ACCESS`` has the values of the option ``access``::

    rule = team-a/* project:0123456789abcdef0123456789abcdef
    rule = *:scratch hidden
""",
    ),
    cfg.IntOpt(
        "workers",
        default=4,
        min=1,
        help="Number of concurrent calls to Glance.",
    ),
    cfg.IntOpt(
        "refresh_interval",
        default=300,
        min=1,
        help="""
Seconds after which the list of images is read from Glance again, to undo
changes that others have made to the images there.

Changes on the engine take effect immediately.
""",
    ),
]

_cli_opts = [
    cfg.BoolOpt(
        "once",
        default=False,
        help="Synchronize once and exit; the exit status is 1 if anything failed.",
    ),
]


def register_sync_opts(conf: cfg.ConfigOpts) -> None:
    """Register all options of glance-docker-sync."""
    conf.register_cli_opts(_cli_opts)
    conf.register_opts(engine_opts, group=engine_group)
    conf.register_opts(sync_opts, group=sync_group)
    loading.register_session_conf_options(conf, GLANCE_GROUP)
    loading.register_auth_conf_options(conf, GLANCE_GROUP)
    loading.register_adapter_conf_options(conf, GLANCE_GROUP)
    conf.set_default("service_type", "image", GLANCE_GROUP)


def is_default(conf: cfg.ConfigOpts, name: str, group: str) -> bool:
    """Tell whether an option has its value because nobody has set it."""
    return conf.get_location(name, group).location is cfg.Locations.opt_default


def lock_path(conf: Any) -> str | None:
    """Return the directory of the locks that the processes of a host share."""
    # In Glance, these options exist already, and this changes nothing.
    for group, opts in lock_opts():
        conf.register_opts(opts, group=group)
    return conf.oslo_concurrency.lock_path


def glance(conf: cfg.ConfigOpts) -> Adapter:
    """Return an adapter for Glance with the service's own user.

    :raises ValueError: when the options are incomplete
    """
    try:
        auth = loading.load_auth_from_conf_options(conf, GLANCE_GROUP)
        session = loading.load_session_from_conf_options(conf, GLANCE_GROUP, auth=auth)
    except exceptions.ClientException as error:
        raise ValueError(f"[{GLANCE_GROUP}]: {error}") from error
    if auth is None:
        raise ValueError(f"[{GLANCE_GROUP}] auth_type is not set")
    adapter = loading.load_adapter_from_conf_options(
        conf, GLANCE_GROUP, session=session, auth=auth
    )
    # The paths of calls are those of version 2, wherever the catalog points.
    adapter.min_version, adapter.max_version = "2", "2.latest"
    return adapter


def list_opts() -> list[tuple[cfg.OptGroup | str, list[Any]]]:
    """Return the options of glance-docker-sync, for ``oslo.config.opts``."""
    return [
        (engine_group, engine_opts),
        (sync_group, sync_opts),
        *lock_opts(),
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
    """Return the options of a store, for ``oslo.config.opts``.

    In glance-api.conf, their group has the store's name in ``enabled_backends``.
    """
    return [(engine_group, store_opts)]
