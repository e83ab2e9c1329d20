# SPDX-License-Identifier: Apache-2.0
"""Doing steps as early as what they need is done, and saying so."""

from __future__ import annotations

import concurrent.futures
import time
import traceback
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass

from cloud import commands
from cloud import settings
from cloud.errors import QuickstartError


@dataclass(frozen=True)
class Step:
    """One thing to do.

    :ivar name: unique; names its log file and is what others wait for
    :ivar title: what the operator reads
    :ivar action: does it; safe to call when it is done already
    :ivar after: names of the steps that must have ended
    """

    name: str
    title: str
    action: Callable[[], None]
    after: tuple[str, ...] = ()

    def log(self) -> str:
        return str(settings.LOG / f"step-{self.name}.log")


def run(steps: Sequence[Step]) -> None:
    """Run all steps, side by side where their needs allow.

    :raises QuickstartError: after the first failure, when what was running then
        has ended
    """
    began = time.monotonic()
    waiting = list(steps)
    done: set[str] = set()
    running: dict[concurrent.futures.Future[float], Step] = {}
    failed: Step | None = None
    with concurrent.futures.ThreadPoolExecutor(max_workers=len(steps)) as pool:
        while running or (waiting and not failed):
            for step in [s for s in waiting if done.issuperset(s.after)]:
                if not failed:
                    waiting.remove(step)
                    running[pool.submit(_do, step)] = step
            if not running:
                names = ", ".join(step.name for step in waiting)
                raise AssertionError(f"steps wait for each other: {names}")
            ended, _ = concurrent.futures.wait(
                running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                step = running.pop(future)
                error = future.exception()
                if error is None:
                    done.add(step.name)
                    now = time.monotonic() - began
                    _say(f"{now:6.1f} s  {step.title}  ({future.result():.1f} s)")
                elif failed is None or isinstance(error, QuickstartError):
                    failed = step
                    _say(f"FAILED    {step.title}: {error}")
                    _say(f"          see {step.log()}")
    if failed:
        raise QuickstartError(f"'{failed.title}' failed: see {failed.log()}")


def _do(step: Step) -> float:
    began = time.monotonic()
    commands.set_log(settings.LOG / f"step-{step.name}.log")
    try:
        step.action()
    except BaseException:
        with commands.log().open("a") as output:
            traceback.print_exc(file=output)
        raise
    return time.monotonic() - began


def _say(line: str) -> None:
    print(line, flush=True)
