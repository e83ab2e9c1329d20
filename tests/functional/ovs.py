# SPDX-License-Identifier: Apache-2.0
"""A private Open vSwitch on a userspace datapath, with one bridge.

Its database and control sockets are in a directory of the test, so that it runs beside
any other Open vSwitch of the host.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

from oslo_utils import uuidutils
from ovsdbapp.backend.ovs_idl import connection
from ovsdbapp.schema.open_vswitch import impl_idl

SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
# Open vSwitch's test datapath: the userspace datapath without a device of its own, of
# which a host can only have one.
DATAPATH = "dummy"
BRIDGE = "br-" + uuidutils.generate_uuid()[:8]


class OpenVSwitch:
    """A running Open vSwitch.

    :ivar connection: value for os-vif's option ``ovsdb_connection``
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self._socket = directory / "db.sock"
        self.connection = f"unix:{self._socket}"
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        database = self._directory / "conf.db"
        subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True)
        self._spawn("ovsdb-server", database, f"--remote=punix:{self._socket}")
        while not self._socket.exists():
            self._check()
        initialise = ["ovs-vsctl", f"--db={self.connection}", "--no-wait", "init"]
        subprocess.run(initialise, check=True)
        self._spawn("ovs-vswitchd", self.connection, "--enable-dummy")
        schema = connection.OvsdbIdl.from_server(self.connection, "Open_vSwitch")
        self.api = impl_idl.OvsdbIdl(connection.Connection(schema, timeout=20))
        # Returns when ovs-vswitchd has created the bridge.
        self.api.add_br(BRIDGE, datapath_type=DATAPATH).execute(check_error=True)

    def stop(self) -> None:
        with contextlib.suppress(Exception):
            self.api.del_br(BRIDGE).execute(check_error=True)
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(20)

    def ports(self) -> set[str]:
        return set(self.api.list_ports(BRIDGE).execute(check_error=True))

    def interface(self, name: str) -> dict[str, str]:
        """Return the ``external_ids`` of an interface."""
        return self.api.db_get("Interface", name, "external_ids").execute(
            check_error=True
        )

    def _spawn(self, program: str, *arguments: object) -> None:
        log = (self._directory / f"{program}.log").open("wb")
        self._processes.append(
            subprocess.Popen(
                [program, *map(str, arguments)],
                env=os.environ | {"OVS_RUNDIR": str(self._directory)},
                stdout=log,
                stderr=log,
            )
        )

    def _check(self) -> None:
        for process in self._processes:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} exited; see {self._directory}")
        time.sleep(0.01)


@contextlib.contextmanager
def running(directory: pathlib.Path) -> Iterator[OpenVSwitch]:
    switch = OpenVSwitch(directory)
    try:
        switch.start()
        yield switch
    finally:
        switch.stop()


__all__ = ["BRIDGE", "OpenVSwitch", "running"]
