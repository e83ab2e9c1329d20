# SPDX-License-Identifier: Apache-2.0
"""Adds the server to the log lines of Engine API calls.

:mod:`docker_engine` logs each call at DEBUG and knows no servers. Nova's log format
has a field for the instance, which operators search for.
"""

from __future__ import annotations

import logging
import re

from docker_engine.transport import http
from nova_docker.container import naming

_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SERVER = re.compile(rf"\b{re.escape(naming.PREFIX)}({_UUID})")


def install() -> None:
    """Start adding servers to log lines; calling it again has no effect."""
    # A filter is logging's documented way to add context to records.
    http.LOG.addFilter(_add_server)


def _add_server(record: logging.LogRecord) -> bool:
    if found := _SERVER.search(record.getMessage()):
        # oslo.log formats this as it does the instance of Nova's own messages.
        record.instance_uuid = found[1]
    return True
