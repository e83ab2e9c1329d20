# SPDX-License-Identifier: Apache-2.0
"""The report of a soak: what was done, what failed, and what was found."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import threading
import time
from typing import Any

# Of a verb: Nova did it; refused it; put the server into ERROR; ended otherwise; did
# not end because a fault has ended or frozen a process of Nova; did not end although
# none has; or could not be reached. Only "stuck" counts against the cloud, together
# with what the invariants find: faults make verbs fail.
OUTCOMES = ("done", "refused", "error", "failed", "cut off", "stuck", "unavailable")

# Faults after which Nova does not resume every verb: users then delete the server.
CUTTING_OFF = ("nova-compute", "nova-conductor", "rabbitmq")


@dataclasses.dataclass
class Report:
    """Collects the events of a run. Several threads may use it."""

    options: dict[str, Any]
    began: float = dataclasses.field(default_factory=time.monotonic)
    verbs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    faults: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    checks: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    notes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    leaks: list[str] = dataclasses.field(default_factory=list)
    #: allocations that Nova has left to `nova-manage placement audit`
    stale: int = 0
    #: violations that there were before
    known: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._cut_off = float("-inf")

    def seconds(self) -> float:
        return round(time.monotonic() - self.began, 1)

    def verb(self, name: str, server: str, outcome: str, seconds: float) -> None:
        item = {
            "at": self.seconds(),
            "verb": name,
            "server": server,
            "outcome": outcome,
            "seconds": round(seconds, 2),
        }
        with self._lock:
            self.verbs.append(item)
        self.say(f"{name} {server}: {outcome} after {seconds:.1f} s")

    def fault(self, name: str, began: float, hit: object) -> None:
        """Record a fault.

        :param began: when its injection began; it has ended now
        :param hit: process or object that was hit, or None
        """
        item = {"at": began, "until": self.seconds(), "fault": name, "hit": hit}
        with self._lock:
            self.faults.append(item)
            if any(each in name for each in CUTTING_OFF):
                self._cut_off = time.monotonic()
        self.say(f"FAULT {name} from {began} s: {hit}")

    def cut_off(self) -> float:
        """Return when the last fault ended that verbs may not survive.

        :returns: on the monotonic clock
        """
        return self._cut_off

    def check(self, violations: list[str], settled: float, **measured: Any) -> None:
        """Record a check of the invariants.

        :param settled: seconds until they held, or until the check gave up
        :param measured: of nova-compute: ``pid``, ``rss_mib``, ``fds``, ``threads``
        """
        item = {
            "at": self.seconds(),
            "violations": violations,
            "settled": round(settled, 1),
            **measured,
        }
        with self._lock:
            self.checks.append(item)
        self.say(f"CHECK {len(violations)} violations after {settled:.1f} s {measured}")
        for violation in violations:
            self.say(f"  VIOLATION {violation}")

    def change(self, server: str, old: str, new: str) -> None:
        """Record that the status of a server has changed without a verb."""
        item = {"at": self.seconds(), "server": server, "change": f"{old} to {new}"}
        with self._lock:
            self.changes.append(item)
        self.say(f"{server} went from {old} to {new}")

    def note(self, text: str) -> None:
        with self._lock:
            self.notes.append({"at": self.seconds(), "note": text})
        self.say(text)

    def say(self, text: str) -> None:
        print(f"{self.seconds():8.1f}  {text}\n", end="", flush=True)

    @property
    def passed(self) -> bool:
        found = any(check["violations"] for check in self.checks)
        stuck = any(verb["outcome"] == "stuck" for verb in self.verbs)
        return bool(self.checks) and not (found or stuck or self.leaks)

    def summary(self) -> dict[str, Any]:
        """Return the figures of the run."""
        outcomes: dict[str, collections.Counter[str]] = {}
        times: dict[str, list[float]] = {}
        for item in self.verbs:
            outcomes.setdefault(item["verb"], collections.Counter())[
                item["outcome"]
            ] += 1
            if item["outcome"] == "done":
                times.setdefault(item["verb"], []).append(item["seconds"])
        return {
            "options": self.options,
            "violations before": self.known,
            "seconds": self.seconds(),
            "passed": self.passed,
            "verbs": {
                name: {
                    **{
                        key: outcomes[name][key]
                        for key in OUTCOMES
                        if outcomes[name][key]
                    },
                    **latencies(times.get(name, [])),
                }
                for name in sorted(outcomes)
            },
            "faults": dict(collections.Counter(each["fault"] for each in self.faults)),
            "changes without a verb": dict(
                collections.Counter(each["change"] for each in self.changes)
            ),
            "checks": len(self.checks),
            "checks with violations": sum(bool(c["violations"]) for c in self.checks),
            "violations": sorted({v for c in self.checks for v in c["violations"]}),
            "left at the end": self.leaks,
            "stale allocations of resizes": self.stale,
            "nova-compute": growth(self.checks),
        }

    def as_json(self) -> dict[str, Any]:
        """Return everything."""
        return {
            **self.summary(),
            "every verb": self.verbs,
            "every fault": self.faults,
            "every check": self.checks,
            "every change without a verb": self.changes,
            "notes": self.notes,
        }

    def as_text(self) -> str:
        """Return the summary as tables."""
        found = self.summary()
        head = f"{'verb':24}" + "".join(f"{name:>12}" for name in OUTCOMES)
        lines = [
            f"Soak of {found['seconds']:.0f} s: {self.options}",
            "",
            f"{head}{'median s':>10}{'p95 s':>8}{'max s':>8}",
        ]
        for name, row in found["verbs"].items():
            counts = "".join(f"{row.get(key, 0):12}" for key in OUTCOMES)
            spent = [row.get(key, "-") for key in ("median", "p95", "max")]
            lines.append(f"{name:24}{counts}{spent[0]:>10}{spent[1]:>8}{spent[2]:>8}")
        total = [
            sum(row.get(key, 0) for row in found["verbs"].values()) for key in OUTCOMES
        ]
        lines += [
            f"{'all ' + str(sum(total)):24}" + "".join(f"{n:12}" for n in total),
            "",
        ]
        lines += [
            f"{count:4} of {name}" for name, count in sorted(found["faults"].items())
        ]
        lines += ["", "servers whose status changed without a verb:"]
        lines += [
            f"{count:4} from {name}"
            for name, count in sorted(found["changes without a verb"].items())
        ]
        lines += [
            "",
            f"{found['checks']} checks of the invariants, "
            f"{found['checks with violations']} with violations",
            *(f"  {text}" for text in found["violations"]),
            f"left after all servers were deleted: {len(self.leaks)}",
            *(f"  {text}" for text in self.leaks),
            f"stale allocations of resizes, removed by an audit: {self.stale}",
            "",
            "memory, descriptors and threads of each nova-compute, first → last:",
            *(f"  {row}" for row in found["nova-compute"]),
            "",
            "PASSED" if self.passed else "FAILED",
        ]
        return "\n".join(lines)


def latencies(seconds: list[float]) -> dict[str, float]:
    """Return median, 95th percentile and maximum; nothing for no times."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) * 95 // 100, len(ordered) - 1)], 1),
        "max": round(ordered[-1], 1),
    }


def growth(checks: list[dict[str, Any]]) -> list[str]:
    """Describe how the use of each nova-compute has changed, between restarts."""
    processes: dict[int, list[dict[str, Any]]] = {}
    for check in checks:
        if check.get("pid"):
            processes.setdefault(check["pid"], []).append(check)
    return [
        f"{pid} ({len(seen)} checks): "
        + ", ".join(
            f"{seen[0][key]} → {seen[-1][key]} {unit}"
            for key, unit in (
                ("rss_mib", "MiB"),
                ("fds", "fds"),
                ("threads", "threads"),
            )
        )
        for pid, seen in processes.items()
    ]
