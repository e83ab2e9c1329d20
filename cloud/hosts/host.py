# SPDX-License-Identifier: Apache-2.0
"""The hosts' names, files, addresses and ranges of user and group ids."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from cloud import settings
from cloud.errors import QuickstartError
from cloud.settings import DATA
from cloud.settings import ETC
from cloud.settings import RUN
from cloud.state import state

#: The largest number of hosts, including the first one: the ranges of ids of their
#: servers must end below 2**32 - 1, which is not an id.
MOST = 8

# The range of the first host, the default of [docker]subid_start, ends below this.
_FIRST_ID = 2**31
_IDS = 2**28

_COUNT, _OFF = "hosts", "hosts_off"


@dataclass(frozen=True)
class Host:
    """A compute host.

    :ivar number: 1 for this machine itself
    """

    number: int

    @property
    def name(self) -> str:
        """The name that Nova and OVN have for it."""
        return settings.HOST if self.is_first else f"{settings.HOST}-{self.number}"

    @property
    def is_first(self) -> bool:
        """Whether it is this machine itself."""
        return self.number == 1

    @property
    def etc(self) -> pathlib.Path:
        return ETC / f"hosts/{self.number}"

    @property
    def data(self) -> pathlib.Path:
        return DATA if self.is_first else DATA / f"hosts/{self.number}"

    @property
    def run(self) -> pathlib.Path:
        return RUN if self.is_first else RUN / f"hosts/{self.number}"

    @property
    def netns(self) -> str:
        """The name of its network namespace, for ``ip netns``."""
        return f"quickstart-{self.number}"

    @property
    def mounts(self) -> pathlib.Path:
        """The file on which its mount namespace is kept."""
        return RUN / f"hosts/mounts/{self.number}"

    @property
    def cgroup(self) -> str:
        """The control group of its servers, below each hierarchy."""
        return f"{settings.CGROUP}/host-{self.number}"

    @property
    def engine(self) -> pathlib.Path:
        """The socket of its engine."""
        return self.run / "docker/docker.sock"

    @property
    def switch(self) -> pathlib.Path:
        """The socket of its virtual switch's database."""
        return self.run / "ovs/db.sock"

    @property
    def control(self) -> str:
        """Its address on the network of the control services."""
        return f"{settings.CONTROL_PREFIX}.{self.number}"

    @property
    def tunnel(self) -> str:
        """Its address on the network of OVN's tunnels."""
        return f"{settings.TUNNEL_PREFIX}.{self.number}"

    @property
    def subids(self) -> tuple[int, int]:
        """The first user and group id of its servers on this machine, and how many."""
        return _FIRST_ID + (self.number - 2) * _IDS, _IDS

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that is to run in its namespaces."""
        if self.is_first:
            return ()
        return (
            "/usr/bin/nsenter",
            f"--net=/run/netns/{self.netns}",
            f"--mount={self.mounts}",
        )

    @property
    def is_on(self) -> bool:
        """Whether it has power: see :func:`cloud.hosts.life.kill`."""
        return self.number not in state.get(_OFF, [])

    def turn(self, *, on: bool) -> None:
        """Remember whether it has power."""
        off = {n for n in state.get(_OFF, []) if n != self.number}
        state.set(_OFF, sorted(off if on else {*off, self.number}))

    def service(self, name: str) -> str:
        """Return the name of one of its services."""
        return name if self.is_first else f"{name}@{self.name}"


def everyone() -> list[Host]:
    """Return all hosts."""
    return [Host(number) for number in range(1, count() + 1)]


def others() -> list[Host]:
    """Return the hosts beside the first one."""
    return everyone()[1:]


def count() -> int:
    """Return how many hosts the cloud has, the first one included."""
    return state.get(_COUNT, 1)


def set_count(number: int) -> None:
    """Remember how many hosts the cloud has."""
    state.set(_COUNT, number)


def of_service(name: str) -> Host | None:
    """Return the host in whose namespaces a service runs; None for the first host.

    :param name: as :meth:`Host.service` returns it
    """
    service = name.partition("@")[0]
    return next((host for host in others() if host.service(service) == name), None)


def by_name(name: str) -> Host:
    """Return one of :func:`others`.

    :raises QuickstartError: if there is no such host
    """
    for host in others():
        if host.name == name:
            return host
    if name == settings.HOST:
        raise QuickstartError(
            f"{name} is this machine itself; stop it with ./quickstart down"
        )
    known = ", ".join(host.name for host in others())
    what_now = f"there are {known}" if known else "add one: ./quickstart up --hosts 2"
    raise QuickstartError(f"there is no host {name!r}; {what_now}")
