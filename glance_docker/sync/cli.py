# SPDX-License-Identifier: Apache-2.0
"""The command glance-docker-sync."""

from __future__ import annotations

import contextlib
import logging as std_logging
import signal
import sys

from oslo_config import cfg
from oslo_log import log as logging

from docker_engine import errors
from docker_engine import location
from glance_docker import conf as options
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.slots import Slots
from glance_docker.sync import access_rules
from glance_docker.sync.follow import Follower
from glance_docker.sync.reconcile import Reconciler
from glance_docker.sync.reconcile import WouldRemove

LOG = logging.getLogger(__name__)

# Of the option access, before it became "hidden".
_FORMER_DEFAULT = "public"


def main(arguments: list[str] | None = None) -> int:
    """Run ``glance-docker-sync [--once] --config-file FILE``.

    :param arguments: default to those of the process
    :returns: the exit status
    """
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    options.register_sync_opts(conf)
    try:
        conf(
            arguments if arguments is not None else sys.argv[1:],
            "glance-docker-sync",
            description="List the images of a Docker engine in Glance, and keep the "
            "list current.",
        )
        logging.setup(conf, "glance-docker-sync")
        # keystoneauth logs each request to Glance: too much to be of use.
        std_logging.getLogger("keystoneauth").setLevel(std_logging.WARNING)
        client = options.engine(conf.engine)
        engine = location.check_engine(conf.engine.docker_engine)
        rules = access_rules.Rules(conf.sync.rule, conf.sync.access)
        listed_rules = None
        if options.is_default(conf, "access", "sync"):
            listed_rules = access_rules.Rules(conf.sync.rule, _FORMER_DEFAULT)
        reconciler = Reconciler(
            client,
            ImageGateway(options.glance(conf)),
            engine,
            rules,
            conf.sync.workers,
            Slots(options.lock_path(conf), engine, conf.engine.docker_exports),
            listed_rules,
        )
    except (cfg.Error, ValueError) as error:
        sys.exit(f"glance-docker-sync: {error}")
    try:
        with contextlib.closing(reconciler):
            if conf.once:
                return _run_once(reconciler)
            follower = Follower(client, reconciler, conf.sync.refresh_interval)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *args: follower.stop())
            follower.run()
    except WouldRemove as error:
        sys.exit(f"glance-docker-sync: {error}")
    return 0


def _run_once(reconciler: Reconciler) -> int:
    try:
        reconciler.run()
        reconciler.finish()
    except (errors.DockerError, GatewayError) as error:
        LOG.error("Glance does not list all of the engine's images: %s", error)
        return 1
    return 0
