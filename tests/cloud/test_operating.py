# SPDX-License-Identifier: Apache-2.0
"""The verbs of ./quickstart that look at services and restart them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from concurrent import futures

from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from tests.cloud import cloud


def quickstart(*words):
    return subprocess.run(
        [cloud.QUICKSTART, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def states():
    return {each["name"]: each for each in json.loads(quickstart("status", "--json"))}


def test_the_state_of_each_service_is_shown():
    shown = states()
    assert {"dockerd", "nova-compute", "neutron", "glance"} < set(shown)
    assert all(each["ready"] and each["pid"] for each in shown.values())
    lines = quickstart("status").splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "ready"] for name in shown]


def test_a_service_is_restarted_alone():
    before = states()
    assert "glance-docker-sync is ready" in quickstart("restart", "glance-docker-sync")
    after = states()
    changed = {name for name in before if before[name]["pid"] != after[name]["pid"]}
    assert changed == {"glance-docker-sync"}
    assert after["glance-docker-sync"]["ready"]


def test_a_list_of_neutron_is_complete_from_its_start(boot, demo):
    """Nova deletes the ports of a server that are in the list."""
    port = boot().port().id

    def list_until(restarted):
        """Return whether the port was in each list."""
        listed = []
        while not restarted.done():
            with contextlib.suppress(SDKException, ClientException):
                listed.append([each.id for each in demo.network.ports()])
        return all(port in each for each in listed)

    with futures.ThreadPoolExecutor() as pool:
        restarted = pool.submit(quickstart, "restart", "neutron")
        lists = [pool.submit(list_until, restarted) for _ in range(4)]
        assert "neutron is ready" in restarted.result()
        assert all(each.result() for each in lists)


def test_the_log_of_a_service_is_printed():
    assert "Starting compute node" in quickstart("logs", "nova-compute")
