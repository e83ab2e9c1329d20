# SPDX-License-Identifier: Apache-2.0
"""The report of a soak."""

from __future__ import annotations

import json
import time

import pytest

from tests.soak.report import Report
from tests.soak.report import growth
from tests.soak.report import latencies


@pytest.fixture
def report():
    found = Report({"seed": 1})
    for seconds in (1, 2, 9):
        found.verb("start", "uuid", "done", seconds)
    found.verb("start", "uuid", "error", 1)
    found.fault("kill -9 of dockerd", 1.0, 4711)
    found.check([], 3, pid=1, rss_mib=100, fds=10, threads=5)
    found.check([], 3, pid=1, rss_mib=110, fds=11, threads=5)
    return found


def test_verbs_are_counted_by_outcome(report):
    expected = {"done": 3, "error": 1, "median": 2, "p95": 9, "max": 9}
    assert report.summary()["verbs"] == {"start": expected}
    assert report.summary()["faults"] == {"kill -9 of dockerd": 1}
    assert report.passed


def test_a_violation_fails_the_run(report):
    report.check(["container x has no server"], 60)
    assert not report.passed
    assert "container x has no server" in report.as_text()
    assert report.as_text().endswith("FAILED")


def test_only_a_verb_that_no_fault_has_cut_off_counts_as_stuck(report):
    report.verb("rescue", "uuid", "cut off", 70)
    assert report.passed
    report.verb("rescue", "uuid", "stuck", 180)
    assert not report.passed


@pytest.mark.parametrize(
    ("fault", "cuts"), [("kill -9 of nova-compute", True), ("glance away", False)]
)
def test_verbs_may_not_survive_a_fault_of_nova(report, fault, cuts):
    before = time.monotonic()
    report.fault(fault, 1.0, None)
    assert (report.cut_off() > before) == cuts


def test_stale_allocations_are_shown(report):
    report.stale = 3
    assert "removed by an audit: 3" in report.as_text()


def test_a_change_without_a_verb_is_shown(report):
    report.change("uuid", "ACTIVE", "SHUTOFF")
    assert "   1 from ACTIVE to SHUTOFF" in report.as_text()


def test_something_left_fails_the_run(report):
    report.leaks = ["volumes: v"]
    assert not report.passed


def test_a_run_without_a_check_fails():
    assert not Report({}).passed


def test_the_report_is_json(report):
    found = json.loads(json.dumps(report.as_json()))
    assert len(found["every verb"]) == 4
    assert found["passed"]


def test_growth_is_shown_for_each_process(report):
    [line] = growth(report.checks)
    assert "100 → 110 MiB" in line and "10 → 11 fds" in line


def test_no_times_have_no_latencies():
    assert latencies([]) == {}
