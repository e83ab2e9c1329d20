# SPDX-License-Identifier: Apache-2.0
"""The lxcfs of the quickstart: whether it runs, and its command line."""

from __future__ import annotations

import configparser
import shlex

import pytest

from cloud import lxcfs
from cloud import services
from cloud import supervisor


@pytest.fixture
def fuse(tmp_path, monkeypatch):
    device = tmp_path / "fuse"
    monkeypatch.setattr(lxcfs, "FUSE", device)
    return device


def found():
    return [each for each in services.infrastructure() if each.name == "lxcfs"]


def test_a_machine_without_fuse_has_none(fuse):
    assert not found()
    assert lxcfs.point() == ""


def test_supervisord_runs_the_whole_command(fuse):
    fuse.touch()
    [service] = found()
    # As supervisord reads it
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(supervisor._program(service))
    shell, option, script = shlex.split(parser["program:lxcfs"]["command"])
    assert (shell, option) == ("/bin/sh", "-c")
    assert script.endswith(f" {lxcfs.point()}")


def test_an_lxcfs_that_is_not_mounted_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(lxcfs, "POINT", tmp_path)
    assert not lxcfs.is_ready()
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/uptime").touch()
    assert lxcfs.is_ready()
