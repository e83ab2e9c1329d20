# SPDX-License-Identifier: Apache-2.0
"""Adds the server to the log lines of Engine API calls about it.

:mod:`docker_engine` logs each call at DEBUG and knows no servers. Nova's log format
has a field for the instance, which operators grep for.
"""

from __future__ import annotations

import logging
import re

from nova import conf as nova_conf

from docker_engine.transport import http
from nova_docker.container import naming

CONF = nova_conf.CONF

_DEFAULT_FORMAT = "[instance: %(uuid)s] "
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SERVER = re.compile(rf"\b{re.escape(naming.name_of(''))}({_UUID})")


def install() -> None:
    """Start adding servers; calling it again has no effect."""
    # A filter is logging's documented way to add context to records.
    http.LOG.addFilter(_add_instance)


def _add_instance(record: logging.LogRecord) -> bool:
    if found := _SERVER.search(record.getMessage()):
        # oslo.log's option is registered once Nova has parsed its configuration.
        text = getattr(CONF, "instance_uuid_format", _DEFAULT_FORMAT)
        record.instance = text % {"uuid": found[1]}
    return True
