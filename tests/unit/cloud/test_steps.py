# SPDX-License-Identifier: Apache-2.0
"""The steps of ./quickstart up, and the order in which they run."""

from __future__ import annotations

import threading

import pytest

from cloud import parts
from cloud import settings
from cloud import state
from cloud import step_runner
from cloud import steps
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts.host import Host
from cloud.step_runner import Step


def nothing():
    pass


@pytest.fixture(autouse=True)
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "LOG", tmp_path / "log")
    (tmp_path / "log").mkdir()
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")
    return tmp_path / "log"


@pytest.mark.parametrize("fake_compute", [False, True])
def test_the_steps_of_up_form_a_graph_without_gaps_or_cycles(fake_compute):
    found = steps.steps(fake_compute=fake_compute)
    assert ("fake-compute" in {step.name for step in found}) == fake_compute
    step_runner.sort(found)


@pytest.mark.parametrize("part", parts.ALL)
def test_each_part_fits_into_the_graph(monkeypatch, part):
    monkeypatch.setattr(parts, "has", lambda name: name == part)
    step_runner.sort(steps.steps(fake_compute=False))


@pytest.mark.parametrize("wanted", [False, True])
def test_horizon_is_a_step_only_if_it_is_wanted(monkeypatch, wanted):
    monkeypatch.setattr(steps.parts, "has", lambda part: wanted and part == "horizon")
    found = steps.steps(fake_compute=False)
    assert ("horizon" in {step.name for step in found}) == wanted
    step_runner.sort(found)
    # The first server waits for nothing of it.
    assert not any("horizon" in step.after for step in found)


@pytest.mark.parametrize(
    ("count", "off", "expected"),
    [
        (1, [], set()),
        (3, [], {"host-networks", "host-2", "host-3"}),
        (3, [2], {"host-networks", "host-3"}),
        (2, [2], set()),
    ],
)
def test_each_host_with_power_is_a_step(count, off, expected):
    hosts.set_count(count)
    for number in off:
        Host(number).turn(on=False)
    found = steps.steps(fake_compute=False)
    step_runner.sort(found)
    assert {step.name for step in found if step.name.startswith("host-")} == expected


@pytest.mark.parametrize("fake_compute", [False, True])
def test_nothing_but_the_virtual_environment_is_needed_first(fake_compute):
    found = steps.steps(fake_compute=fake_compute)
    assert [step.name for step in found if not step.after] == ["venv"]


def test_a_dependency_that_does_not_exist_is_an_error():
    with pytest.raises(QuickstartError, match="'b' depends on 'x', which is not"):
        step_runner.run([Step("a", "A", nothing), Step("b", "B", nothing, ("a", "x"))])


def test_two_steps_with_one_name_are_an_error():
    with pytest.raises(QuickstartError, match="two steps named 'a'"):
        step_runner.run([Step("a", "A", nothing), Step("a", "B", nothing)])


def test_a_cycle_is_an_error():
    circle = [Step("a", "A", nothing, ("b",)), Step("b", "B", nothing, ("a",))]
    with pytest.raises(QuickstartError, match=r"each other: (a -> b -> a|b -> a -> b)"):
        step_runner.run([*circle, Step("c", "C", nothing)])


def test_a_step_runs_after_those_that_it_depends_on(logs):
    done = []
    lock = threading.Lock()

    def action(name):
        def run():
            with lock:
                done.append(name)

        return run

    graph = {"d": ("b", "c"), "c": ("a",), "b": ("a",), "a": (), "e": ("d",)}
    step_runner.run([Step(n, n, action(n), after) for n, after in graph.items()])
    assert sorted(done) == ["a", "b", "c", "d", "e"]
    for name, after in graph.items():
        assert all(done.index(other) < done.index(name) for other in after)
    assert sorted(path.name for path in logs.iterdir()) == [
        f"step-{name}.log" for name in "abcde"
    ]


def test_independent_steps_run_at_the_same_time():
    meeting = threading.Barrier(3, timeout=30)
    alone = [Step(name, name, meeting.wait) for name in "abc"]
    step_runner.run(alone)


def test_a_step_waits_for_nothing_but_its_dependencies():
    # The slow step ends only after the last one of the chain has run.
    chain_done = threading.Event()

    def slow():
        assert chain_done.wait(30)

    step_runner.run(
        [
            Step("slow", "Slow", slow),
            Step("a", "A", nothing),
            Step("b", "B", nothing, ("a",)),
            Step("c", "C", chain_done.set, ("b",)),
        ]
    )


def test_after_a_failure_running_steps_end_and_no_step_starts(
    logs, capsys, monkeypatch
):
    noticed = threading.Event()
    printed = []
    done = []

    def note(line):
        printed.append(line)
        if "FAILED" in line:
            noticed.set()

    def fail():
        raise QuickstartError("no mirror")

    def slow():
        assert noticed.wait(30)
        done.append("slow")

    monkeypatch.setattr(step_runner, "_print", note)

    with pytest.raises(QuickstartError, match=r"'Fails' failed; see .*step-fails\.log"):
        step_runner.run(
            [
                Step("fails", "Fails", fail),
                Step("slow", "Slow", slow),
                Step("next", "Next", lambda: done.append("next"), ("fails",)),
                Step("last", "Last", lambda: done.append("last"), ("slow",)),
            ]
        )
    assert done == ["slow"]
    assert "FAILED    Fails: no mirror" in printed
    assert "QuickstartError: no mirror" in (logs / "step-fails.log").read_text()
