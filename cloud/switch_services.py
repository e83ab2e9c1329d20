# SPDX-License-Identifier: Apache-2.0
"""The services of a host's virtual switch, which :mod:`cloud.open_vswitch` configures.

The first host and those of :mod:`cloud.hosts` have the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from cloud import ovn
from cloud import probes
from cloud.open_vswitch import Switch
from cloud.service import Service


def environment(switch: Switch) -> dict[str, str]:
    """Return where the programs of a switch find its other sockets."""
    return {"OVS_RUNDIR": f"{switch.run}/ovs", "OVN_RUNDIR": f"{switch.run}/ovn"}


def services(switch: Switch, configure: Callable[[], None]) -> list[Service]:
    """Return the services of a switch; those that nothing else needs stop first.

    :param configure: writes the configuration, each time before ovs-vswitchd starts
    """
    env = environment(switch)
    database = (
        f"/usr/sbin/ovsdb-server {switch.database}"
        f" --remote=punix:{switch.socket}"
        f" --unixctl={switch.run}/ovs/ovsdb-server.ctl"
    )
    return [
        Service(
            "ovsdb-server",
            database,
            lambda: probes.socket_accepts(switch.socket),
            env=env,
            prepare=switch.make_database,
            # The group of the directory, nova, may connect to the socket.
            umask="007",
            priority=20,
        ),
        Service(
            "ovs-vswitchd",
            f"/usr/sbin/ovs-vswitchd unix:{switch.socket} --unixctl={switch.control}",
            switch.is_ready,
            env=env,
            prepare=configure,
            # A database that restarts is empty: configure it again.
            version=database,
            priority=30,
        ),
        Service(
            "ovn-controller",
            f"/usr/bin/ovn-controller unix:{switch.socket}",
            functools.partial(ovn.has_chassis, switch.host),
            env=env,
            version=database,
            priority=40,
        ),
    ]
