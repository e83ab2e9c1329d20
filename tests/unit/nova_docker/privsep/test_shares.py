# SPDX-License-Identifier: Apache-2.0
"""The privileged functions of shares run programs, here stand-ins, for a time."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from nova_docker.privsep import shares
from nova_docker.privsep import shares_admin

SECONDS = 60

KEY = ("nova-1", "share", "data")


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Replaces mount, umount and stat by shell scripts; returns what was called."""
    shares_admin.set_client_mode(False)
    log = tmp_path / "log"
    log.touch()
    monkeypatch.setattr(shares, "DIRECTORY", tmp_path / "run/shares")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def script(name, body="true"):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {log}\n{body}\n')
        path.chmod(0o755)

    for name in ("mount", "umount", "stat"):
        script(name)
    script.calls = lambda: log.read_text().splitlines()
    yield script
    shares_admin.set_client_mode(True)


def mount(seconds=SECONDS):
    shares.mount(*KEY, "nfs", "192.0.2.7:/1", "nosuid,nodev", seconds)


def left():
    return [path for path in shares.DIRECTORY.rglob("*") if path.is_dir()]


def test_a_share_is_mounted_in_a_directory_that_only_root_can_read(programs):
    mount()
    place = shares.DIRECTORY.joinpath(*KEY)
    assert programs.calls() == [f"mount -t nfs -o nosuid,nodev -- 192.0.2.7:/1 {place}"]
    modes = [path.stat().st_mode & 0o777 for path in (shares.DIRECTORY, *left())]
    assert modes == [0o700] * 4
    # The engine's other files are below this one.
    assert shares.DIRECTORY.parent.stat().st_mode & 0o777 == 0o711


def test_what_a_program_says_is_the_reason(programs):
    programs("mount", "echo 'access denied' >&2; exit 32")
    with pytest.raises(OSError, match="access denied") as error:
        mount()
    assert error.value.errno == errno.EIO
    assert not left()


def test_a_program_that_says_nothing_has_a_reason_too(programs):
    programs("mount", "exit 32")
    with pytest.raises(OSError, match="mount has failed with code 32"):
        mount()


def test_a_program_that_does_not_end_is_killed_with_its_children(programs, tmp_path):
    pid = tmp_path / "pid"
    programs("mount", f"sleep 1000 & echo $! > {pid}; wait")
    with pytest.raises(OSError, match="not ended") as error:
        mount(seconds=1)
    assert error.value.errno == errno.ETIMEDOUT
    assert not left()
    child = pathlib.Path("/proc", pid.read_text().strip(), "stat")
    assert not child.exists() or child.read_text().split()[2] in "ZX"


def test_what_is_mounted_at_the_last_moment_is_unmounted(programs):
    programs("mount", "exit 1")
    with pytest.raises(OSError, match="code 1"):
        mount()
    assert [call.split()[0] for call in programs.calls()] == ["mount", "umount"]


def test_unmounting_does_not_wait_for_the_storage(programs):
    mount()
    shares.unmount(*KEY, SECONDS)
    place = shares.DIRECTORY.joinpath(*KEY)
    assert programs.calls()[1:] == [
        f"umount --internal-only --lazy --no-canonicalize {place}"
    ]
    assert not left()


def test_the_other_shares_of_a_server_stay(programs):
    mount()
    shares.mount("nova-1", "other", "data", "nfs", "192.0.2.7:/2", "ro", SECONDS)
    shares.unmount(*KEY, SECONDS)
    assert [path.name for path in left()] == ["nova-1", "other", "data"]


def test_a_file_system_that_answers_is_one_that_can_be_looked_at(programs):
    mount()
    shares.ask(*KEY, SECONDS)
    programs("stat", "exit 1")
    with pytest.raises(OSError, match="stat has failed"):
        shares.ask(*KEY, SECONDS)
