# SPDX-License-Identifier: Apache-2.0
"""When OVN has wired a port, as seen on its host.

ovn-controller installs a port's flows and then sets ``ovn-installed`` on the interface
in the local Open vSwitch. Neutron learns of it by way of OVN's databases, and collects
events for Nova for up to ``send_events_interval`` seconds before it sends them: the
host knows first.
"""

from __future__ import annotations

import contextlib
import threading
import time
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

# It takes OVN about 30 ms. A release before 20.12 says nothing on the host.
_SECONDS = 5


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

    @contextlib.contextmanager
    def watched(self, ports: Collection[str]) -> Iterator[_Watch]:
        """Watch ports, which the block plugs.

        :param ports: their UUIDs
        """
        events = [Installed(port) for port in ports]
        interfaces = self._connected() if events else None
        if interfaces is None:
            yield _Watch([])
            return
        interfaces.handler.watch_events(events)
        try:
            yield _Watch(events)
        finally:
            interfaces.handler.unwatch_events(events)

    def _connected(self) -> _Interfaces | None:
        """Return the interfaces of the switch; None if it does not answer."""
        with self._lock:
            if self._interfaces is None:
                try:
                    self._interfaces = _connect(CONF.os_vif_ovs.ovsdb_connection)
                # Whatever python-ovs raises: Neutron's events are enough.
                except Exception as error:
                    LOG.warning(
                        "Cannot watch the ports of OVN in Open vSwitch; waiting for "
                        "Neutron's events instead: %s",
                        error,
                    )
            return self._interfaces


class _Watch:
    """What to wait for."""

    def __init__(self, events: Collection[Installed]) -> None:
        self._events = events

    def wait(self) -> bool:
        """Wait until the flows of all ports are installed, but not for long.

        :returns: whether they are; False if there are no ports
        """
        deadline = time.monotonic() + _SECONDS
        return bool(self._events) and all(
            each.event.wait(max(0, deadline - time.monotonic()))
            for each in self._events
        )


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
    connection.Connection(interfaces, CONF.os_vif_ovs.ovs_vsctl_timeout).start()
    return interfaces
