# SPDX-License-Identifier: Apache-2.0
"""Looking at the services of a running cloud, and restarting them."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from typing import Any

from cloud import settings
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.service import Service
from cloud.services import services
from cloud.state import state_lock


def status(as_json: bool) -> None:
    """Print the services' states; exit with 1 unless all services are ready.

    :param as_json: whether for a program: a list with an object for each service
    """
    found = _states() if supervisor.running() else []
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        width = max(len(each["name"]) for each in found)
        for each in found:
            print(_line(each, width))
    else:
        print("The cloud is down.")
    if not found or not all(each["ready"] for each in found):
        if found and not as_json:
            print("\nRead a log with ./quickstart logs NAME")
        sys.exit(1)


def logs(name: str, follow: bool) -> None:
    """Print the log of a service.

    :param follow: whether to go on with what is written from now on
    :raises QuickstartError: if the service has no log yet
    """
    path = supervisor.log(by_name(name))
    if not path.exists():
        raise QuickstartError(
            f"{name} has no log in {settings.LOG}: it has not been started; run "
            "./quickstart up first"
        )
    if follow:
        # It ends with Ctrl-C, and follows the log into its next file.
        os.execvp("tail", ["tail", "--lines=100", "--follow=name", str(path)])
    with path.open("rb") as log:
        shutil.copyfileobj(log, sys.stdout.buffer)


def restart(name: str) -> None:
    """Restart a service, and wait until it is ready again.

    :raises QuickstartError: if the cloud is down, the service's host has no power, or
        the service does not become ready
    """
    service = by_name(name)
    with state_lock():
        if not supervisor.running():
            raise QuickstartError("the cloud is down; run ./quickstart up")
        if host := _without_power(name):
            raise QuickstartError(
                f"{host} has no power; give it back with ./quickstart host start {host}"
            )
        began = time.monotonic()
        supervisor.stop(name)
        supervisor.start(service)
    print(f"{name} is ready after {time.monotonic() - began:.1f} s")


def by_name(name: str) -> Service:
    """Return a service.

    :raises QuickstartError: if there is none of that name, with those that there are
    """
    found = {service.name: service for service in services()}
    if name not in found:
        raise QuickstartError(
            f"there is no service {name!r}; the services are {', '.join(sorted(found))}"
        )
    return found[name]


def _states() -> list[dict[str, Any]]:
    """Return the state of each service.

    :returns: dicts of ``name``, ``ready``, ``process`` (supervisord's state), ``pid``
        and ``started`` (seconds since the epoch), which are None if it does not run,
        ``port`` (of 127.0.0.1, or None) and ``log``
    """
    processes = {each["name"]: each for each in supervisor.states()}
    found = []
    for service in services():
        process = processes.get(service.name, {"statename": "UNKNOWN"})
        is_up = process["statename"] in supervisor.UP
        found.append(
            {
                "name": service.name,
                "ready": is_up and service.ready(),
                "process": process["statename"],
                "pid": process["pid"] if is_up else None,
                "started": process["start"] if is_up else None,
                "port": service.port,
                "log": str(supervisor.log(service)),
            }
        )
    return found


def _without_power(service: str) -> str | None:
    """Return the name of a service's host if its power was cut, and None if not."""
    host = hosts.of_service(service)
    return host.name if host and not host.is_on else None


def _line(each: dict[str, Any], width: int) -> str:
    """
    :param width: of the column of names
    """
    word = "ready" if each["ready"] else "not ready"
    if _without_power(each["name"]):
        word = "no power"
    since = "-"
    if each["started"]:
        since = time.strftime("%F %T", time.localtime(each["started"]))
    where = f"127.0.0.1:{each['port']}" if each["port"] else ""
    return f"{each['name']:{width}} {word:10} {each['process']:9} {since:20} {where}"
