# SPDX-License-Identifier: Apache-2.0
"""Random verbs on servers, through the API as a user of the cloud."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

from keystoneauth1 import exceptions as keystone
from openstack import exceptions

from tests import archives
from tests.cloud import cloud
from tests.soak.report import Report

NAME = "soak"  # of servers, images and the flavor: the beginning
# A first process that counts, and ends at once when it is told to.
COUNT = (
    "trap 'exit 0' TERM; i=0; "
    "while :; do i=$((i+1)); echo $i > /count; sleep 1 & wait $!; done"
)
TIMEOUT = 180  # seconds that a verb may take
CUT_OFF_TIMEOUT = 60  # seconds that it may take after a fault that may have cut it off
# Of a detachment that a killed nova-compute has forgotten, Nova shows nothing.
DETACH_TIMEOUT = 60
INTERVAL = 0.5  # seconds between looks at a server
LARGE = {"vcpus": 1, "ram": 96, "disk": 1}


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb of the compute API.

    :ivar weight: how often it is chosen, among the verbs for a server's status
    :ivar call: calls the API, given a :class:`User` and the server's ID
    :ivar until: the statuses of a server for which it has succeeded
    :ivar meanwhile: the statuses of a server until it has ended, besides those that
        say so themselves
    """

    name: str
    weight: int
    call: Callable[[User, str], Any]
    until: tuple[str, ...] = ("ACTIVE",)
    meanwhile: tuple[str, ...] = ()


class User:
    """One user of the cloud, with a connection of its own.

    :ivar random: decides what the user does
    """

    def __init__(self, resources: Resources, chooser: random.Random) -> None:
        self.cloud = cloud.connect("demo")
        self.operator = cloud.connect("admin")
        self.random = chooser
        self.resources = resources

    @property
    def api(self) -> Any:
        return self.cloud.compute

    def upload(self, name: str) -> str:
        """Upload an image that no host has, and return its ID."""
        content = archives.busybox_archive(
            config={"Cmd": ["sh", "-c", COUNT]},
            files={"etc/serial": str(self.random.random()).encode()},
        )
        return self.cloud.image.create_image(
            name, data=content, container_format="docker", disk_format="raw"
        ).id

    def create(self, name: str) -> str:
        """Request a server, from a new image now and then, and return its ID."""
        fresh = self.random.random() < 0.25
        image = (
            self.upload(name) if fresh else self.random.choice(self.resources.images)
        )
        return self.api.create_server(
            name=name,
            image_id=image,
            flavor_id=self.resources.tiny,
            networks=[{"uuid": self.resources.network}],
            config_drive=self.random.random() < 0.3,
        ).id

    def resize(self, server: str) -> None:
        current = self.api.get_server(server).flavor.name
        large = current == self.resources.large_name
        to = self.resources.tiny if large else self.resources.large
        self.api.resize_server(server, to)

    def snapshot(self, server: str) -> None:
        """Take a snapshot, and delete the image when it is complete or given up."""
        image = self.api.create_server_image(server, f"{NAME}-snapshot", wait=False)
        deadline = time.monotonic() + TIMEOUT
        try:
            while self.api.get_server(server).task_state:
                if time.monotonic() > deadline:
                    return
                time.sleep(INTERVAL)
            found = self.cloud.image.find_image(image.id)
            if found is None or found.status != "active":
                raise Failed(f"image is {found and found.status}")
        finally:
            self.cloud.image.delete_image(image.id, ignore_missing=True)

    def attach(self, server: str) -> None:
        """Attach a second interface, or detach it if there is one."""
        found = sorted(
            self.api.server_interfaces(server), key=lambda item: item.port_id
        )
        # A server whose boot has failed has none.
        addresses = self.api.get_server(server).addresses.get("private") or []
        first = addresses[0]["addr"] if addresses else None
        others = [
            item
            for item in found
            if first not in [ip["ip_address"] for ip in item.fixed_ips]
        ]
        if not others:
            self.api.create_server_interface(server, net_id=self.resources.network)
            return
        port = others[0].port_id
        self.api.delete_server_interface(port, server)
        deadline = time.monotonic() + DETACH_TIMEOUT
        while port in [item.port_id for item in self.api.server_interfaces(server)]:
            if time.monotonic() > deadline:
                raise Failed("the interface is still attached")
            time.sleep(INTERVAL)


class Failed(Exception):
    """A verb failed although the API accepted it."""


@dataclasses.dataclass
class Resources:
    """What the servers are made of; each is an ID."""

    images: list[str]
    tiny: str
    large: str
    large_name: str
    network: str


def _call(name: str, *arguments: Any) -> Callable[[User, str], Any]:
    return lambda user, server: getattr(user.api, name)(server, *arguments)


_HARD = Verb("reboot hard", 2, _call("reboot_server", "HARD"))
_DELETE = Verb("delete", 2, _call("delete_server"), ())
_REBUILD = Verb(
    "rebuild",
    2,
    lambda user, server: user.api.rebuild_server(
        server, image=user.random.choice(user.resources.images)
    ),
    ("ACTIVE", "SHUTOFF"),
)
_SNAPSHOT = Verb("snapshot", 3, User.snapshot, ("ACTIVE", "SHUTOFF", "PAUSED"))
_RESIZE = Verb("resize", 3, User.resize, ("VERIFY_RESIZE",))

VERBS: dict[str, tuple[Verb, ...]] = {
    "ACTIVE": (
        Verb("stop", 3, _call("stop_server"), ("SHUTOFF",)),
        Verb("reboot soft", 3, _call("reboot_server", "SOFT")),
        Verb("pause", 2, _call("pause_server"), ("PAUSED",)),
        Verb("suspend", 2, _call("suspend_server"), ("SUSPENDED",)),
        Verb(
            "rescue",
            2,
            lambda user, server: user.api.rescue_server(
                server, image_ref=user.resources.images[0]
            ),
            ("RESCUE",),
        ),
        Verb("attach or detach", 3, User.attach),
        _HARD,
        _REBUILD,
        _SNAPSHOT,
        _RESIZE,
        _DELETE,
    ),
    "SHUTOFF": (
        Verb("start", 8, _call("start_server")),
        dataclasses.replace(_HARD, weight=1),
        dataclasses.replace(_REBUILD, weight=1),
        dataclasses.replace(_SNAPSHOT, weight=1),
        dataclasses.replace(_RESIZE, weight=1),
        dataclasses.replace(_DELETE, weight=1),
    ),
    "PAUSED": (
        Verb("unpause", 4, _call("unpause_server")),
        dataclasses.replace(_SNAPSHOT, weight=1),
        dataclasses.replace(_HARD, weight=1),
        dataclasses.replace(_DELETE, weight=1),
    ),
    "SUSPENDED": (
        Verb("resume", 4, _call("resume_server")),
        dataclasses.replace(_HARD, weight=1),
        dataclasses.replace(_DELETE, weight=1),
    ),
    "RESCUE": (
        Verb("unrescue", 4, _call("unrescue_server")),
        dataclasses.replace(_DELETE, weight=1),
    ),
    "VERIFY_RESIZE": (
        Verb(
            "confirm resize",
            4,
            _call("confirm_server_resize"),
            ("ACTIVE", "SHUTOFF"),
            ("VERIFY_RESIZE",),
        ),
        Verb("revert resize", 4, _call("revert_server_resize"), ("ACTIVE", "SHUTOFF")),
        dataclasses.replace(_DELETE, weight=1),
    ),
    # As a user does with a server that a fault has broken.
    "ERROR": (
        dataclasses.replace(_HARD, weight=1),
        dataclasses.replace(_DELETE, weight=2),
    ),
}


# Statuses of a server that Nova is working on, though it has no task state at times.
_UNDER_WAY = (
    "BUILD",
    "DELETED",
    "HARD_REBOOT",
    "MIGRATING",
    "REBOOT",
    "REBUILD",
    "RESIZE",
    "REVERT_RESIZE",
)


class Gate:
    """Lets verbs through while it is open; closing it waits for those inside."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = False
        self._inside = 0

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._open)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def open(self) -> None:
        with self._changed:
            self._open = True
            self._changed.notify_all()

    def close(self, timeout: float | None = None) -> bool:
        """Return whether all verbs have ended in time."""
        with self._changed:
            self._open = False
            return self._changed.wait_for(lambda: not self._inside, timeout)


class Traffic:
    """Users who call random verbs on a number of servers.

    :param servers: how many servers there should be
    :param at_once: how many verbs are under way at the same time
    """

    def __init__(
        self,
        resources: Resources,
        report: Report,
        *,
        seed: int,
        servers: int,
        at_once: int,
    ) -> None:
        self.gate = Gate()
        self._report = report
        self._wanted = servers
        self._lock = threading.Lock()
        self._idle: list[str] = []
        # The status in which its last verb has left a server.
        self._left: dict[str, str] = {}
        self._total = 0
        self._made = 0
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._work,
                args=(User(resources, random.Random(f"{seed} user {number}")),),
                daemon=True,
                name=f"user-{number}",
            )
            for number in range(at_once)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def fill(self) -> None:
        """Wait until all servers have been created once."""
        while True:
            with self._lock:
                if self._made >= self._wanted:
                    return
            time.sleep(1)

    def stop(self) -> None:
        """End the users, after the verbs under way."""
        self._ending.set()
        self.gate.open()
        for thread in self._threads:
            thread.join(4 * TIMEOUT)

    def _work(self, user: User) -> None:
        while not self._ending.is_set():
            with self.gate.passed():
                if self._ending.is_set():
                    return
                try:
                    self._step(user)
                except (exceptions.SDKException, keystone.ClientException) as error:
                    # The API was away while the user was looking, not acting.
                    self._report.note(f"user: {type(error).__name__}: {error}")
                    time.sleep(1)

    def _step(self, user: User) -> None:
        with self._lock:
            create = self._total < self._wanted
            if create:
                self._total += 1
                self._made += 1
                name = f"{NAME}-{self._made}"
            elif self._idle:
                server = self._idle.pop(user.random.randrange(len(self._idle)))
            else:
                server = None
        if create:
            self._create(user, name)
        elif server:
            kept = True
            try:
                kept = self._act(user, server)
            finally:
                with self._lock:
                    if kept:
                        self._idle.append(server)
                    else:
                        self._total -= 1
        else:
            time.sleep(1)

    def _create(self, user: User, name: str) -> None:
        server = None
        began = time.monotonic()
        try:
            server = user.create(name)
            outcome = self._wait(user, server, ("ACTIVE",))
        except (exceptions.SDKException, keystone.ClientException) as error:
            outcome = _refusal(error)
        self._report.verb("boot", server or name, outcome, time.monotonic() - began)
        if server is None:
            time.sleep(2)
        with contextlib.suppress(exceptions.SDKException, keystone.ClientException):
            for image in user.cloud.image.images(name=name):
                user.cloud.image.delete_image(image.id)
        with self._lock:
            if server:
                self._idle.append(server)
            else:
                self._total -= 1

    def _act(self, user: User, server: str) -> bool:
        """Call a verb on a server, and return whether the server still exists."""
        try:
            found = user.api.get_server(server)
        except exceptions.NotFoundException:
            return False
        if found.task_state:
            self._recover(user, server, found.task_state)
            return True
        verbs = VERBS.get(found.status)
        if not verbs:
            self._report.note(f"{server} is {found.status}")
            time.sleep(1)
            return True
        left = self._left.get(server, found.status)
        if found.status != left:
            self._report.change(server, left, found.status)
        [verb] = user.random.choices(verbs, [verb.weight for verb in verbs])
        began = time.monotonic()
        try:
            verb.call(user, server)
            outcome = self._wait(user, server, verb.until, verb.meanwhile)
        except Failed as error:
            outcome = "failed"
            self._report.note(f"{verb.name} {server}: {error}")
        except (exceptions.SDKException, keystone.ClientException) as error:
            outcome = _refusal(error)
            self._report.note(f"{verb.name} {server}: {error}")
        self._report.verb(verb.name, server, outcome, time.monotonic() - began)
        return not (verb.name == "delete" and outcome == "done")

    def _wait(
        self,
        user: User,
        server: str,
        until: tuple[str, ...],
        meanwhile: tuple[str, ...] = (),
    ) -> str:
        """Wait until Nova has ended a verb, and return its outcome.

        :param until: the statuses that mean success; none for a deletion
        :param meanwhile: as in :class:`Verb`
        """
        began = time.monotonic()
        cut_off = False
        while time.monotonic() < began + TIMEOUT:
            fault = self._report.cut_off()
            cut_off = fault > began
            if cut_off and time.monotonic() > fault + CUT_OFF_TIMEOUT:
                break
            try:
                found = user.api.get_server(server)
            except exceptions.NotFoundException:
                return "failed" if until else "done"
            except (exceptions.SDKException, keystone.ClientException):
                time.sleep(INTERVAL)
                continue
            self._left[server] = found.status
            if not found.task_state:
                if found.status in until:
                    return "done"
                if found.status == "ERROR":
                    reason = found.fault["message"] if found.fault else "no fault"
                    self._report.note(f"{server} is in ERROR: {reason}")
                    return "error"
                # A deletion that has failed, or a verb that Nova has rolled back.
                if found.status not in (*_UNDER_WAY, *meanwhile):
                    self._report.note(f"{server} is {found.status}")
                    return "failed"
            time.sleep(INTERVAL)
        return "cut off" if cut_off else "stuck"

    def _recover(self, user: User, server: str, task: str) -> None:
        """Delete a server whose verb has not ended, as its user can at any time.

        Nova ignores that if the verb was a deletion, for example because Placement was
        away. An operator resets the state of the server first.
        """
        began = time.monotonic()
        time.sleep(2)
        try:
            if task == "deleting":
                user.operator.compute.reset_server_state(server, "error")
            user.api.delete_server(server)
            outcome = self._wait(user, server, ())
        except (exceptions.SDKException, keystone.ClientException) as error:
            outcome = _refusal(error)
        seconds = time.monotonic() - began
        self._report.verb(f"delete while {task}", server, outcome, seconds)


def _refusal(error: Exception) -> str:
    status = getattr(error, "status_code", None) or getattr(error, "http_status", None)
    return "refused" if status and status < 500 else "unavailable"
