# SPDX-License-Identifier: Apache-2.0
"""Running steps, each as soon as the steps that it depends on are done."""

from __future__ import annotations

import concurrent.futures
import graphlib
import time
import traceback
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cloud import commands
from cloud import settings
from cloud.errors import QuickstartError


@dataclass(frozen=True)
class Step:
    """A unit of work that can run beside others.

    :ivar name: unique; names the step's log file, and other steps refer to it
    :ivar title: what the operator reads
    :ivar action: does the work, and returns soon if it is done already
    :ivar after: names of the steps that must be done first
    """

    name: str
    title: str
    action: Callable[[], None]
    after: tuple[str, ...] = ()

    def log(self) -> str:
        return str(settings.LOG / f"step-{self.name}.log")


def sort(steps: Sequence[Step]) -> graphlib.TopologicalSorter[str]:
    """Return a prepared sorter of the steps' names.

    :raises QuickstartError: when two steps have the same name, when a step depends
        on one that does not exist, or when steps depend on each other in a cycle
    """
    names = [step.name for step in steps]
    for step in steps:
        if names.count(step.name) > 1:
            raise QuickstartError(f"there are two steps named {step.name!r}")
        for name in step.after:
            if name not in names:
                raise QuickstartError(
                    f"the step {step.name!r} depends on {name!r}, which is not a step"
                )
    sorter = graphlib.TopologicalSorter({step.name: step.after for step in steps})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        cycle = " -> ".join(error.args[1])
        raise QuickstartError(f"steps depend on each other: {cycle}") from None
    return sorter


def run(steps: Sequence[Step]) -> None:
    """Run all steps, in parallel as far as their dependencies allow.

    After a failure no step is started; the call returns when those that are running
    have ended.

    :raises QuickstartError: with the first failure, or as :func:`sort` does
    """
    began = time.monotonic()
    sorter = sort(steps)
    by_name = {step.name: step for step in steps}
    running: dict[Future[float], Step] = {}
    failed: Step | None = None
    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        while running or (sorter.is_active() and not failed):
            if not failed:
                for name in sorter.get_ready():
                    running[pool.submit(_run_one, by_name[name])] = by_name[name]
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    sorter.done(step.name)
                    elapsed = time.monotonic() - began
                    _print(f"{elapsed:6.1f} s  {step.title}  ({future.result():.1f} s)")
                else:
                    failed = failed or step
                    _print(f"FAILED    {step.title}: {error}")
                    _print(f"          see {step.log()}")
    if failed:
        raise QuickstartError(
            f"step {failed.title!r} failed; see {failed.log()}. When the cause is "
            "removed, run ./quickstart again: it continues with this step"
        )


def _run_one(step: Step) -> float:
    """Run a step with a log of its own, and return the seconds that it took."""
    began = time.monotonic()
    commands.set_log(settings.LOG / f"step-{step.name}.log")
    try:
        step.action()
    except BaseException:
        with commands.log().open("a") as output:
            traceback.print_exc(file=output)
        raise
    return time.monotonic() - began


def _print(line: str) -> None:
    print(line, flush=True)
