# SPDX-License-Identifier: Apache-2.0
"""Soak: random verbs and random faults, on servers of the quickstart's cloud.

``python -m tests.soak`` brings the cloud up, creates servers, and then calls random
verbs on them while it injects random faults. Every minute it lets the verbs end, and
checks that Nova's state is true and that nothing is left of what no longer exists. At
the end it deletes all servers, and prints a report. The exit status is 0 if each check
passed and nothing was left.

The seed determines what each user and each fault tries; what comes of it also depends
on timing, so a second run with the same seed is similar, not equal.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import json
import pathlib
import random
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

from openstack import exceptions

from cloud import databases
from cloud.install import debian_packages
from tests import archives
from tests.cloud import cloud
from tests.cloud import services
from tests.soak import invariants
from tests.soak import traffic
from tests.soak.faults import Faults
from tests.soak.observe import Observation
from tests.soak.observe import Observer
from tests.soak.report import Report
from tests.soak.traffic import Traffic

PERIOD = 60  # seconds between checks
BUSY = 40  # seconds of each period with verbs and faults
SETTLE = 60  # seconds that a check waits for the invariants to hold
READY = 120  # seconds that services may take to be ready again
# Each server takes a VCPU, and a resize another one until it is confirmed.
RATIOS = ("cpu_allocation_ratio = 16.0", "cpu_allocation_ratio = 64.0")
QUOTA = {"instances": 100, "cores": 200}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=60, help="duration (default: 60)"
    )
    parser.add_argument("--servers", type=int, default=30, help="(default: 30)")
    parser.add_argument(
        "--at-once", type=int, default=4, help="verbs at the same time (default: 4)"
    )
    parser.add_argument(
        "--faults", type=float, default=2, help="faults per minute (default: 2)"
    )
    parser.add_argument("--seed", type=int, help="of a run to repeat")
    parser.add_argument(
        "--report", type=pathlib.Path, help="file for the report as JSON"
    )
    options = vars(parser.parse_args())
    path = options.pop("report")
    if options["seed"] is None:
        options["seed"] = secrets.randbelow(10**6)
    # For a run that hangs: kill -USR1 prints where.
    faulthandler.register(signal.SIGUSR1)
    # The configuration is restored then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    cloud.up()
    debian_packages.install_missing("soak")
    delete_servers()
    report = Report(options)
    report.say(f"options {options}")
    observer = Observer()
    report.options["live-restore"] = observer.engine.info()["LiveRestoreEnabled"]
    try:
        with services.configured(services.NOVA_CONF, *RATIOS, "nova-compute"):
            before = observer.look()
            # Of servers that are not of this run, which the cloud may have.
            report.known = invariants.violations(before)
            report.say(f"before: {report.known}")
            with resources() as made:
                _soak(options, report, observer, made)
            _end(report, observer, before)
    finally:
        if path:
            path.write_text(json.dumps(report.as_json(), indent=1) + "\n")
        print(report.as_text())
    sys.exit(not report.passed)


def _soak(
    options: dict[str, Any],
    report: Report,
    observer: Observer,
    made: traffic.Resources,
) -> None:
    users = Traffic(
        made,
        report,
        seed=options["seed"],
        servers=options["servers"],
        at_once=options["at_once"],
    )
    chooser = random.Random(f"{options['seed']} faults")
    faults = Faults(observer.engine, chooser)
    users.start()
    try:
        _run(options, report, observer, users, faults, chooser)
    finally:
        users.stop()


def _run(
    options: dict[str, Any],
    report: Report,
    observer: Observer,
    users: Traffic,
    faults: Faults,
    chooser: random.Random,
) -> None:
    users.gate.open()
    users.fill()
    report.began = began = time.monotonic()
    injected = 0
    while (now := time.monotonic()) < began + options["minutes"] * 60:
        users.gate.open()
        until = now + BUSY
        due = round((now + PERIOD - began) / 60 * options["faults"]) - injected
        for moment in sorted(chooser.uniform(0, BUSY) for _ in range(due)):
            time.sleep(max(now + moment - time.monotonic(), 0))
            _inject(faults, report)
            injected += 1
        time.sleep(max(until - time.monotonic(), 0))
        if not users.gate.close(2 * traffic.TIMEOUT):
            report.note("a verb does not end")
        _check(report, observer)
        time.sleep(max(now + PERIOD - time.monotonic(), 0))


def _inject(faults: Faults, report: Report) -> None:
    name, inject = faults.choose()
    began = report.seconds()
    try:
        hit = inject()
    except Exception as error:
        hit = f"failed: {error!r}"
    report.fault(name, began, hit)


def _check(report: Report, observer: Observer) -> None:
    """Wait until the services are ready, and check the invariants.

    They may take some time to hold: Nova learns of some faults late.
    """
    began = time.monotonic()
    found: list[str] = ["the services are not ready"]
    seen = Observation()
    deadline = began + READY
    while time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            if observer.services_ready():
                found = []
                break
        time.sleep(1)
    if not found:
        deadline = time.monotonic() + SETTLE
        while True:
            try:
                seen = observer.look()
                found = [
                    text
                    for text in invariants.violations(seen)
                    if text not in report.known
                ]
            except Exception as error:
                found = [f"the cloud cannot be observed: {error!r}"]
            if not found or time.monotonic() > deadline:
                break
            time.sleep(2)
    report.check(found, time.monotonic() - began, **seen.compute)


def _end(report: Report, observer: Observer, before: Observation) -> None:
    """Compare what there is without the soak's servers with what there was before."""
    # Until then, it may refuse to remove some volumes.
    services.restart("dockerd")
    _check(report, observer)
    report.stale = len(invariants.stale(observer.look()))
    if report.stale:
        databases.audit_placement()
    report.leaks = ["the state was not observed"]
    deadline = time.monotonic() + SETTLE
    while report.leaks and time.monotonic() < deadline:
        with contextlib.suppress(Exception):
            report.leaks = invariants.leaks(before, observer.look())
        time.sleep(2)


def delete_servers() -> None:
    """Delete the servers of this run or of one that was killed, and wait for it."""
    api = cloud.connect("demo").compute
    deadline = time.monotonic() + 2 * traffic.TIMEOUT
    asked: set[tuple[str, str]] = set()
    while time.monotonic() < deadline:
        with contextlib.suppress(exceptions.SDKException):
            servers = [s for s in api.servers() if s.name.startswith(traffic.NAME)]
            if not servers:
                return
            for server in servers:
                # A deletion that failed leaves a server in ERROR; it is tried again.
                if (server.id, server.status) not in asked:
                    asked.add((server.id, server.status))
                    api.delete_server(server.id, ignore_missing=True)
        time.sleep(1)


@contextlib.contextmanager
def resources() -> Iterator[traffic.Resources]:
    """Create the images and the flavor, and allow enough servers, during the block."""
    admin, demo = cloud.connect("admin"), cloud.connect("demo")
    project = demo.current_project_id
    content = archives.busybox_archive(config={"Cmd": ["sh", "-c", traffic.COUNT]})
    images, large = [], None
    admin.compute.update_quota_set(project, **QUOTA)
    try:
        for number in (1, 2):
            images.append(
                demo.image.create_image(
                    f"{traffic.NAME}-image-{number}",
                    data=content,
                    container_format="docker",
                    disk_format="raw",
                ).id
            )
        # A run that was killed leaves it.
        large = admin.compute.find_flavor(traffic.NAME) or admin.compute.create_flavor(
            name=traffic.NAME, **traffic.LARGE
        )
        yield traffic.Resources(
            images=images,
            tiny=demo.compute.find_flavor("docker.tiny").id,
            large=large.id,
            large_name=large.name,
            network=demo.network.find_network("private").id,
        )
    finally:
        # Also after a run that was interrupted: they exceed the usual quota.
        delete_servers()
        admin.compute.revert_quota_set(project)
        for image in demo.image.images():
            if image.name.startswith(f"{traffic.NAME}-") and image.owner_id == project:
                demo.image.delete_image(image.id)
        if large:
            admin.compute.delete_flavor(large)


if __name__ == "__main__":
    main()
