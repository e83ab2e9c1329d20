# SPDX-License-Identifier: Apache-2.0
"""When OVN has wired a port, as seen on its host.

ovn-controller installs a port's flows and then sets ``ovn-installed`` on the interface
in the local Open vSwitch. Neutron learns of it by way of OVN's databases, and collects
events for Nova for up to ``send_events_interval`` seconds before it sends them: the
host knows first.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from typing import Any

from nova import conf as nova_conf
from oslo_log import log as logging
from ovsdbapp.backend.ovs_idl import connection
from ovsdbapp.backend.ovs_idl import event
from ovsdbapp.backend.ovs_idl import idlutils

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)

_SCHEMA, _TABLE, _COLUMN = "Open_vSwitch", "Interface", "external_ids"

# It takes OVN about 30 ms. A release before 20.12 says nothing on the host: where OVN
# has not said anything yet, the wait is short from the second time on.
_SECONDS = 5
_SECONDS_IN_DOUBT = 1

# Connecting takes about 20 ms. A boot waits no longer than this for a slow switch.
_CONNECT_SECONDS = 10
_READY_SECONDS = 1
_RETRY_SECONDS = 60


class Installed(event.WaitEvent):
    """The flows of a port are installed."""

    def __init__(self, port: str) -> None:
        super().__init__((self.ROW_CREATE, self.ROW_UPDATE), _TABLE, None)
        self._port = port

    @property
    def key(self) -> tuple[Any, ...]:
        # ovsdbapp keeps events with equal keys only once.
        return (*super().key, self._port)

    def match_fn(self, event: str, row: Any, old: Any) -> bool:
        """Return whether this is it. Serves ovsdbapp."""
        ids = row.external_ids
        return ids.get("iface-id") == self._port and ids.get("ovn-installed") == "true"


class Ports:
    """Waits for the ports of one host. Several threads may use it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._interfaces: _Interfaces | None = None
        self._tried = -math.inf
        self._answered = threading.Event()
        # Whether OVN has reported a port, or else has been waited for in vain
        self._has_worked = False
        self._in_doubt = False

    @contextlib.contextmanager
    def watched(self, ports: Collection[str]) -> Iterator[Callable[[], bool]]:
        """Watch ports, which the block plugs.

        :param ports: their UUIDs
        :yields: a function that waits until the flows of all ports are installed, but
            not for long, and returns whether they are; False if there are no ports
        """
        events = [Installed(port) for port in ports]
        interfaces = self._connected() if events else None
        if interfaces is None:
            yield lambda: False
            return
        interfaces.handler.watch_events(events)
        try:
            yield functools.partial(self._wait, events)
        finally:
            interfaces.handler.unwatch_events(events)

    def _wait(self, events: Collection[Installed]) -> bool:
        doubtful = self._in_doubt and not self._has_worked
        deadline = time.monotonic() + (_SECONDS_IN_DOUBT if doubtful else _SECONDS)
        installed = all(
            each.event.wait(max(0, deadline - time.monotonic())) for each in events
        )
        self._has_worked = self._has_worked or installed
        self._in_doubt = not installed
        return installed

    def _connected(self) -> _Interfaces | None:
        """Return the interfaces of the switch; None if it has not answered yet."""
        with self._lock:
            is_due = time.monotonic() > self._tried + _RETRY_SECONDS
            if self._interfaces is None and is_due:
                self._tried = time.monotonic()
                self._answered.clear()
                threading.Thread(
                    target=self._connect, name="docker-ovn", daemon=True
                ).start()
        self._answered.wait(_READY_SECONDS)
        return self._interfaces

    def _connect(self) -> None:
        try:
            self._interfaces = _connect(CONF.os_vif_ovs.ovsdb_connection)
        # Whatever python-ovs raises: Neutron's events are enough.
        except Exception as error:
            LOG.warning(
                "Cannot watch the ports of OVN in Open vSwitch; waiting for Neutron's "
                "events instead: %s",
                error,
            )
        self._answered.set()


class _Interfaces(connection.OvsdbIdl):
    """A copy of the interfaces of a switch, with events."""

    def __init__(self, remote: str, helper: Any) -> None:
        self.handler = event.RowEventHandler()
        super().__init__(remote, helper)

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Look for a matching event. Serves python-ovs."""
        self.handler.notify(event, row, updates)


def _connect(remote: str) -> _Interfaces:
    helper = idlutils.get_schema_helper(remote, _SCHEMA)
    helper.register_columns(_TABLE, [_COLUMN])
    interfaces = _Interfaces(remote, helper)
    try:
        connection.Connection(interfaces, _CONNECT_SECONDS).start()
    except Exception:
        interfaces.handler.shutdown()
        interfaces.close()
        raise
    return interfaces
