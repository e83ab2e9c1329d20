# SPDX-License-Identifier: Apache-2.0
"""Each verb with each of its Engine calls failing in each way.

The calls that a verb makes are recorded, so the matrix covers every endpoint that the
driver uses. For each cell, a server is prepared without faults, the verb is run with
one fault, and then the engine, the host and Nova's view of the server are compared.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import itertools
import pathlib
import tarfile
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping

from nova import exception
from nova.compute import power_state
from nova.compute import vm_states
from oslo_utils import units

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.container import naming
from nova_docker.container import state as states
from nova_docker.privsep import network
from tests.functional.faults import leftovers
from tests.functional.faults.nova import Manager
from tests.functional.faults.nova import Server
from tests.functional.faults.proxy import Fault
from tests.functional.faults.proxy import Proxy

RUNNING = power_state.RUNNING
PAUSED = power_state.PAUSED
STOPPED = power_state.SHUTDOWN
ABSENT = power_state.NOSTATE

MARKER = "/marker"

# Seconds for which the engine may still be removing something
_SETTLING = 3
# Seconds in which the threads of a verb make their calls, at most and without a fault
_ASYNCHRONOUS = 5
_FOLLOWING = 0.5

Act = Callable[[Manager, Server], None]


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb, and what is true before and after it.

    :ivar act: runs it
    :ivar after: the power state when it has succeeded
    :ivar before: acts that put a new server into the state which the verb needs
    :ivar instead: other power states that are true when it has succeeded
    :ivar failed: other power states that are true when it has failed
    :ivar error: what a user can do if Nova shows ERROR; by default the verb again
    :ivar undo: acts after which the server runs from its own disk
    :ivar continuous: whether the server's first process keeps running
    :ivar on_disk: whether the host suspends servers to disk; it needs CRIU
    """

    name: str
    act: Act
    after: int
    before: tuple[Act, ...] = (Manager.boot,)
    instead: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    error: Act | None = None
    undo: tuple[Act, ...] = ()
    continuous: bool = False
    on_disk: bool = False


# Outcomes, as the documentation's table names and explains them
WORKS = "works"
REPEATED = "again"
REBOOTED = "reboot"
UNDONE = "undone"
DELETED = "deleted"

REBOOT = Manager.hard_reboot
BOOT = Manager.boot

VERBS = (
    Verb(
        "start of nova-compute",
        Manager.start_service,
        RUNNING,
        undo=(Manager.hear_exit, Manager.start),
    ),
    Verb("boot", BOOT, RUNNING, before=(), failed=(ABSENT, STOPPED)),
    Verb("delete", Manager.delete, ABSENT, failed=(RUNNING,)),
    Verb("soft reboot", Manager.soft_reboot, RUNNING, failed=(STOPPED,), error=REBOOT),
    Verb("hard reboot", REBOOT, RUNNING, failed=(STOPPED,)),
    Verb("stop", Manager.stop, STOPPED, failed=(RUNNING,), undo=(Manager.start,)),
    Verb("start", Manager.start, RUNNING, (BOOT, Manager.stop), failed=(STOPPED,)),
    Verb(
        "pause",
        Manager.pause,
        PAUSED,
        failed=(RUNNING,),
        undo=(Manager.unpause,),
        continuous=True,
    ),
    Verb(
        "unpause",
        Manager.unpause,
        RUNNING,
        (BOOT, Manager.pause),
        failed=(PAUSED,),
        continuous=True,
    ),
    Verb(
        "suspend",
        Manager.suspend,
        PAUSED,
        failed=(RUNNING,),
        undo=(Manager.resume,),
        continuous=True,
    ),
    Verb(
        "resume",
        Manager.resume,
        RUNNING,
        (BOOT, Manager.suspend),
        failed=(PAUSED,),
        continuous=True,
    ),
    Verb(
        "suspend to disk",
        Manager.suspend,
        STOPPED,
        (BOOT, Manager.remember),
        instead=(PAUSED,),
        failed=(RUNNING, PAUSED),
        undo=(Manager.resume, Manager.recall),
        on_disk=True,
    ),
    Verb(
        "resume from disk",
        Manager.resume,
        RUNNING,
        (BOOT, Manager.remember, Manager.suspend),
        failed=(STOPPED,),
        undo=(Manager.recall,),
        on_disk=True,
    ),
    Verb("snapshot", Manager.snapshot, RUNNING, continuous=True),
    Verb(
        "rescue",
        Manager.rescue,
        RUNNING,
        failed=(STOPPED, ABSENT),
        error=REBOOT,
        undo=(Manager.unrescue,),
    ),
    Verb(
        "unrescue",
        Manager.unrescue,
        RUNNING,
        (BOOT, Manager.rescue),
        failed=(STOPPED, ABSENT),
        error=REBOOT,
    ),
    Verb("rebuild", Manager.rebuild, RUNNING, failed=(STOPPED, ABSENT)),
    Verb(
        "resize",
        Manager.resize,
        RUNNING,
        error=REBOOT,
        continuous=True,
    ),
    Verb("attach interface", Manager.attach, RUNNING, continuous=True),
    Verb(
        "detach interface",
        Manager.detach,
        RUNNING,
        (BOOT, Manager.attach),
        continuous=True,
    ),
)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One call of a verb, and how it fails.

    :ivar number: which of the verb's calls of this endpoint, from 1
    """

    verb: Verb
    endpoint: str
    number: int
    fault: Fault

    def __str__(self) -> str:
        return f"{self.verb.name}: {self.call}: {self.fault.value}"

    @property
    def call(self) -> str:
        return self.endpoint + (f" ({self.number})" if self.number > 1 else "")


@dataclasses.dataclass
class Outcome:
    """What became of a cell.

    :ivar words: for the table
    :ivar problems: what must not happen; empty if all is well
    :ivar error: what the driver raised
    """

    words: str
    problems: list[str]
    error: Exception | None = None
    calls: tuple[str, ...] = ()


class Matrix:
    """Runs cells on one engine.

    :param healthy: calls the engine directly
    :param faulty: calls it through the proxy
    :param new_server: returns a server for a verb; it does not exist yet. The arguments
        tell whether it has an image of its own, and whether CRIU can restore it.
    """

    def __init__(
        self,
        client: DockerClient,
        proxy: Proxy,
        healthy: Manager,
        faulty: Manager,
        inventory: leftovers.Inventory,
        new_server: Callable[[bool, bool], Server],
    ) -> None:
        self._client = client
        self._proxy = proxy
        self._healthy = healthy
        self._faulty = faulty
        self._inventory = inventory
        self._new_server = new_server
        self._before: leftovers.Resources = {}

    def cells(self, verbs: Iterable[Verb] = VERBS) -> list[Cell]:
        """Run each verb without a fault, and return a cell for each call and fault.

        :raises RuntimeError: if a verb does not succeed
        """
        found = []
        for verb in verbs:
            # The first run also fills caches, and makes calls that later ones do not.
            self.run(verb)
            outcome = self.run(verb)
            if outcome.problems or outcome.error:
                raise RuntimeError(f"{verb.name} without a fault: {outcome}")
            seen: dict[str, int] = {}
            for endpoint in outcome.calls:
                seen[endpoint] = seen.get(endpoint, 0) + 1
                found += [
                    Cell(verb, endpoint, seen[endpoint], fault) for fault in Fault
                ]
        return found

    def run(self, verb: Verb, cell: Cell | None = None) -> Outcome:
        """Run a verb, with a fault or without, and compare what follows."""
        self._before = self._inventory.take()
        server = self._new_server(not verb.before, verb.on_disk)
        devices = {vif["devname"] for vif in (*server.network_info, server.spare)}
        for act in verb.before:
            act(self._healthy, server)
        began = self._started_at(server)
        if cell:
            self._proxy.arm(cell.endpoint, cell.number, cell.fault)
        else:
            self._proxy.arm()
        outcome = Outcome(WORKS, [])
        try:
            verb.act(self._faulty, server)
        except Exception as error:
            outcome.error = error
        # Other threads make calls, too: those that follow the events.
        deadline = time.monotonic() + (_ASYNCHRONOUS if cell else _FOLLOWING)
        while not self._proxy.hit and time.monotonic() < deadline:
            time.sleep(0.02)
        hit = self._proxy.hit
        outcome.calls = tuple(self._proxy.calls)
        self._proxy.disarm()
        try:
            if cell and not hit:
                outcome.problems.append("the call was not made")
            outcome.problems += self._check(verb, server, outcome, began)
        except Exception as error:
            outcome.problems.append(f"LOSES: {type(error).__name__}: {error}")
        outcome.problems += self._clean(server, devices)
        return outcome

    def _check(
        self, verb: Verb, server: Server, outcome: Outcome, began: str
    ) -> Iterator[str]:
        error = outcome.error
        if error and not isinstance(error, exception.NovaException):
            yield f"RAISES {type(error).__name__}: {error}"
        if error:
            self._faulty.run_periodic_tasks(SHARED_IMAGE)
        true = self._true_state(server)
        if server.state != vm_states.DELETED or not error:
            shown = self._faulty.power_state(server)
            if shown != true:
                yield f"WRONG STATE: {shown} instead of {true}"
        if true not in (verb.after, *(verb.failed if error else verb.instead)):
            yield f"WRONG STATE: {true} after {verb.name}"
        continuous = verb.continuous
        if error:
            continuous = self._recover(verb, server, outcome) and continuous
            true = self._true_state(server)
        if verb.after == ABSENT:
            return
        for act in verb.undo:
            act(self._faulty, server)
        yield from self._losses(server, true if not verb.undo else RUNNING)
        if continuous and self._started_at(server) != began:
            yield "LOSES the server's processes"

    def _recover(self, verb: Verb, server: Server, outcome: Outcome) -> bool:
        """Do what a user does after a failure; return whether the verb was repeated."""
        if verb.act is BOOT:
            outcome.words = UNDONE
            if server.state != vm_states.DELETED or (
                self._true_state(server) != ABSENT
            ):
                # Nova gave up, or the engine created the container too late.
                outcome.words = DELETED
                self._faulty.reap(server)
            outcome.problems += self._left(server, set(), cached=True)
            BOOT(self._faulty, server)
            return False
        if verb.error and server.state == vm_states.ERROR:
            outcome.words = REBOOTED
            verb.error(self._faulty, server)
            if verb.undo:
                # Repeated, so that there is something to undo
                verb.act(self._faulty, server)
            return False
        outcome.words = REPEATED
        verb.act(self._faulty, server)
        if (true := self._true_state(server)) not in (verb.after, *verb.instead):
            outcome.problems.append(f"WRONG STATE: {true} after trying again")
        return True

    def _losses(self, server: Server, expected: int) -> Iterator[str]:
        """Yield what a server should have and does not have."""
        name = naming.name_of(server.instance.uuid)
        true = self._true_state(server)
        if true != RUNNING:
            yield f"WRONG STATE: {true}"
            return
        for path, content in server.files:
            archive = self._client.get_archive(name, path, max_size=units.Mi)
            with tarfile.open(fileobj=io.BytesIO(archive)) as files:
                [member] = files.getmembers()
                file = files.extractfile(member)
                if not file or file.read() != content:
                    yield f"LOSES {path}"
        wanted = {vif["devname"] for vif in server.network_info}
        if network.names(name).keys() != wanted:
            yield f"LOSES or keeps NICs: {network.names(name)} for {wanted}"
        missing = {vif["devname"] for vif in server.network_info} - (
            self._inventory.take()["OVS port"]
        )
        if missing:
            yield f"LOSES the ports {missing}"
        memory = self._client.inspect_container(name)["HostConfig"]["Memory"]
        if memory != server.instance.flavor.memory_mb * units.Mi:
            yield f"LOSES the flavor's limits: {memory} bytes of memory"
        for unwanted in (naming.aside_name_of(server.instance.uuid),):
            with contextlib.suppress(errors.ContainerNotFound):
                self._client.inspect_container(unwanted)
                yield f"LEAKS container {unwanted}"

    def _clean(self, server: Server, devices: set[str]) -> Iterator[str]:
        """Delete the server, and yield what is left nevertheless."""
        try:
            Manager.delete(self._faulty, server)
        except Exception as error:
            yield f"LEAKS: the deletion raises {type(error).__name__}: {error}"
        problems = self._left(server, devices)
        yield from problems
        if problems:
            self._purge(server)

    def _left(
        self, server: Server, devices: set[str], cached: bool = False
    ) -> list[str]:
        """Return what is left of a deleted server.

        :param cached: whether the server's image may stay
        """
        deadline = time.monotonic() + _SETTLING
        while True:
            self._faulty.run_periodic_tasks(SHARED_IMAGE)
            after = self._inventory.take()
            found = [
                *leftovers.left(self._before, after),
                *self._inventory.of_server(server.instance.uuid, devices),
            ]
            if not found or time.monotonic() > deadline:
                gone = leftovers.lost(self._before, after)
                return [f"LEAKS {one}" for one in found] + [
                    f"LOSES {one}" for one in gone
                ]
            time.sleep(0.1)

    def _purge(self, server: Server) -> None:
        """Remove what is left, so that the next cell starts clean."""
        uuid = server.instance.uuid
        for name in (naming.name_of(uuid), naming.aside_name_of(uuid)):
            with contextlib.suppress(errors.DockerError):
                self._client.remove_container(name)
        with contextlib.suppress(Exception):
            self._healthy.delete(server)
        for image in self._client.list_images():
            for ref in (*(image["RepoTags"] or ()), image["Id"]):
                known = self._before["tag"] | self._before["image"]
                if ref not in known and ref != "<none>:<none>":
                    with contextlib.suppress(errors.DockerError):
                        self._client.remove_image(ref, force=True)

    def _true_state(self, server: Server) -> int:
        """Return a server's power state according to the engine itself."""
        try:
            found = self._client.inspect_container(naming.name_of(server.instance.uuid))
        except errors.ContainerNotFound:
            return ABSENT
        return states.power_state_of(found["State"]["Status"])

    def _started_at(self, server: Server) -> str:
        with contextlib.suppress(errors.ContainerNotFound):
            name = naming.name_of(server.instance.uuid)
            return self._client.inspect_container(name)["State"]["StartedAt"]
        return ""


# The image that all prepared servers share
SHARED_IMAGE = "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd"


def short(cells: Iterable[Cell]) -> list[Cell]:
    """Choose few cells that have each verb, each endpoint and each fault."""
    faults = itertools.cycle(Fault)
    wanted = next(faults)
    seen: set[object] = set()
    chosen = []
    for cell in cells:
        new = {cell.verb.name, cell.endpoint} - seen
        if new and cell.fault is wanted:
            chosen.append(cell)
            seen |= {cell.verb.name, cell.endpoint}
            wanted = next(faults)
    return chosen


def write_table(outcomes: Mapping[Cell, Outcome], target: pathlib.Path) -> None:
    """Write the table of the documentation: a row per call, a column per fault.

    Rows of verbs that have not run stay as they are.
    """
    rows: dict[str, dict[str, dict[str, str]]] = {}
    if target.exists():
        with target.open(newline="") as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["Verb"], {})[row["Call"]] = row
    for name in {cell.verb.name for cell in outcomes}:
        rows[name] = {}
    for cell, outcome in outcomes.items():
        row = rows[cell.verb.name].setdefault(
            cell.call, {"Verb": cell.verb.name, "Call": cell.call}
        )
        row[cell.fault.value] = "; ".join(outcome.problems) or outcome.words
    with target.open("w", newline="") as file:
        columns = ["Verb", "Call", *(fault.value for fault in Fault)]
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for verb in VERBS:
            writer.writerows(rows.get(verb.name, {}).values())
