# SPDX-License-Identifier: Apache-2.0
"""User namespaces of servers on a real engine."""

from __future__ import annotations

import pathlib

import pytest
from nova import exception

from nova_docker import id_ranges
from tests import samples
from tests.functional import host
from tests.functional.host import state


def maps(server, kind="uid"):
    """Return the ranges of a server's first process, as the host has them."""
    pid = server.inspect()["State"]["Pid"]
    lines = pathlib.Path(f"/proc/{pid}/{kind}_map").read_text().splitlines()
    return [tuple(map(int, line.split())) for line in lines]


def test_each_server_has_ids_of_its_own(boot):
    first, second = boot(), boot()
    start, count = host.CONF.docker.subid_start, host.CONF.docker.subid_count
    bases = set()
    for server in (first, second):
        [(inside, base, size)] = maps(server)
        assert maps(server, "gid") == [(inside, base, size)]
        assert (inside, size) == (0, id_ranges.SIZE)
        assert start <= base <= start + count - size
        assert base % 65536 == 0
        bases.add(base)
        pid = server.inspect()["State"]["Pid"]
        assert pathlib.Path(f"/proc/{pid}").stat().st_uid == base
    assert len(bases) == 2
