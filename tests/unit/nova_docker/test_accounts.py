# SPDX-License-Identifier: Apache-2.0
"""Files that the engine reads at a server's start are looked at before."""

from __future__ import annotations

import contextlib
import posixpath

import pytest

from docker_engine import errors
from nova_docker import accounts
from nova_docker.storage import mounts

DIRECTORY, LINK, DEVICE, PIPE, SOCKET = (1 << bit for bit in (31, 27, 26, 25, 24))


class Engine:
    """A client of an engine with one container.

    :ivar files: by path: mode, size, and where a link leads
    """

    def __init__(self, files=None, mounts=(), *, running=False, kind="bind", env=()):
        self.files = {"/etc/passwd": (0o644, 20, "")} | (files or {})
        self.state = {"Running": running}
        self.mounts = mounts
        self.kind = kind
        self.env = env
        self.requested = None
        self.looks = 0

    def inspect_container(self, ref):
        return {
            "Id": "1",
            "State": self.state,
            "Config": {"Env": list(self.env) or None},
            "HostConfig": {"Mounts": self.requested},
            "Mounts": [{"Type": self.kind, "Destination": m} for m in self.mounts],
        }

    def stat_path(self, ref, path):
        self.looks += 1
        if path not in self.files:
            raise errors.PathNotFound("Not Found", 404)
        mode, size, target = self.files[path]
        return {"mode": mode, "size": size, "linkTarget": target}


def link(target):
    return LINK | 0o777, len(target), target


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"/etc/group": (0o644, 2**20, "")},
        {"/etc/passwd": link("/nix/passwd"), "/nix/passwd": (0o444, 20, "")},
        {"/etc/passwd": link("/missing")},
    ],
)
def test_small_files_links_to_them_and_missing_files_are_accepted(files):
    accounts.check(Engine(files, ["/data", "/etcetera"]), "nova-1")


@pytest.mark.parametrize("file", ["/etc/passwd", "/etc/group"])
@pytest.mark.parametrize(
    ("stat", "reason"),
    [
        ((PIPE, 0, ""), "a named pipe"),
        ((DEVICE | 1 << 21, 0, ""), "a device"),
        ((DIRECTORY, 4096, ""), "a directory"),
        ((SOCKET, 0, ""), "a socket"),
        ((1 << 19, 0, ""), "not a regular file"),
        ((0o644, 2**20 + 1, ""), "1048577 bytes long"),
        ((0o644, 2**40, ""), "1099511627776 bytes long"),
    ],
)
def test_other_files_are_refused_directly_and_behind_links(file, stat, reason):
    with pytest.raises(accounts.Unreadable, match=f"{file} in the server is {reason}"):
        accounts.check(Engine({file: stat}), "nova-1")
    linked = {file: link("/a"), "/a": link("/b"), "/b": stat}
    with pytest.raises(accounts.Unreadable, match=reason):
        accounts.check(Engine(linked), "nova-1")


def test_links_without_an_end_are_refused():
    with pytest.raises(accounts.Unreadable, match="chain"):
        accounts.check(Engine({"/etc/passwd": link("/etc/passwd")}), "nova-1")


@pytest.mark.parametrize(
    ("mount", "files"),
    [
        ("/etc", {}),
        ("/", {}),
        ("/etc/group", {}),
        ("/data/../etc", {}),
        ("/alias/etc", {"/alias": link("/")}),
        ("/alias", {"/alias": link("/etc")}),
        ("/data", {"/etc": link("/data"), "/data": (DIRECTORY, 1, "")}),
        ("/data", {"/etc/passwd": link("/data/passwd")}),
        # The engine mounts its own /etc/hosts where this link leads.
        (None, {"/etc/hosts": link("/etc/passwd")}),
    ],
)
def test_a_mount_that_hides_what_the_engine_reads_is_refused(mount, files):
    with pytest.raises(accounts.Unreadable, match="hidden by a mount"):
        accounts.check(Engine(files, [mount] if mount else []), "nova-1")


def test_more_mounts_than_can_be_looked_at_are_refused():
    mounts = [posixpath.join("/", str(number)) for number in range(137)]
    with pytest.raises(accounts.Unreadable, match="more than 136 mounts"):
        accounts.check(Engine(mounts=mounts), "nova-1")
    accounts.check(Engine(mounts=mounts[:136]), "nova-1")


@pytest.mark.parametrize(
    ("mount", "kind", "env", "refused"),
    [
        ("/etc", "tmpfs", ["A=1", "NOVA_ROOT_VOLUMES=1"], False),
        ("/etc", "tmpfs", ["NOVA_ROOT_VOLUMES=0"], True),
        # A server of an earlier version
        ("/etc", "tmpfs", [], True),
        ("/etc", "volume", ["NOVA_ROOT_VOLUMES=1"], True),
        ("/dev/alias", "tmpfs", ["NOVA_ROOT_VOLUMES=1"], True),
    ],
)
def test_a_mount_that_stands_for_a_volume_of_the_image_hides_nothing(
    mount, kind, env, refused
):
    files = {"/dev/alias": link("/etc")}
    engine = Engine(files, [mount], kind=kind, env=env)
    with (
        pytest.raises(accounts.Unreadable, match="hidden by a mount")
        if refused
        else contextlib.nullcontext()
    ):
        accounts.check(engine, "nova-1")


def test_a_file_system_in_memory_that_the_flavor_asks_for_hides_what_is_below():
    engine = Engine(mounts=["/etc"], kind="tmpfs", env=["NOVA_ROOT_VOLUMES=1"])
    engine.requested = [mounts.in_memory("/etc", 8)]
    with pytest.raises(accounts.Unreadable, match="hidden by a mount"):
        accounts.check(engine, "nova-1")


def test_nothing_more_is_looked_at_once_a_caller_refuses():
    engine = Engine(mounts=["/data"])
    looks = []

    def before_look():
        looks.append(None)
        if len(looks) == 3:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        accounts.check_files(engine, engine.inspect_container("nova-1"), before_look)
    assert engine.looks == 2


def test_a_container_that_runs_is_left_alone():
    engine = Engine({"/etc/passwd": (PIPE, 0, "")}, running=True)
    assert accounts.check(engine, "nova-1")["Running"]
