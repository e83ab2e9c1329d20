# SPDX-License-Identifier: Apache-2.0
"""The verbs of ./quickstart that look at services and restart them."""

from __future__ import annotations

import json
import subprocess

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


def test_the_log_of_a_service_is_printed():
    assert "Starting compute node" in quickstart("logs", "nova-compute")
