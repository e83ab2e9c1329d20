# SPDX-License-Identifier: Apache-2.0
"""``python -m cloud.resources.host VERB NAME``: a host of this machine in Nova."""

from __future__ import annotations

import sys

from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.resources.compute import wait_for_host
from cloud.resources.connection import connect


def wait(name: str) -> None:
    """Wait until the nova-compute of a host accepts servers."""
    wait_for_host(name, hosts.by_name(name).service("nova-compute"))


def retire(name: str) -> None:
    """Keep new servers away from a host.

    :raises QuickstartError: if it has servers
    """
    compute = connect().compute
    found = compute.services(binary="nova-compute", host=name)
    enabled = [service for service in found if service.status == "enabled"]
    for service in enabled:
        compute.disable_service(service)
    servers = [
        server.name
        for server in compute.servers(all_projects=True)
        if server.compute_host == name
    ]
    if servers:
        for service in enabled:
            compute.enable_service(service)
        raise QuickstartError(
            f"{name} has servers ({', '.join(servers)}); delete them, or evacuate them "
            f"after ./quickstart host kill {name}, and try again"
        )


def forget(name: str) -> None:
    """Remove the records that Nova has of a host."""
    compute = connect().compute
    for service in compute.services(binary="nova-compute", host=name):
        compute.delete_service(service)


VERBS = {"wait": wait, "retire": retire, "forget": forget}

if __name__ == "__main__":
    try:
        VERBS[sys.argv[1]](sys.argv[2])
    except QuickstartError as error:
        sys.exit(str(error))
