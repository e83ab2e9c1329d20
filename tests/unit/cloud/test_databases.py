# SPDX-License-Identifier: Apache-2.0
"""The commands that create the databases."""

from __future__ import annotations

import pytest

from cloud import commands
from cloud import credentials
from cloud import databases
from cloud import directories
from cloud import settings
from cloud.state import State

PASSWORD = "0123456789abcdef"


@pytest.fixture
def command_lines(tmp_path, monkeypatch):
    """The command lines that run, which all users of a machine can read."""
    found = []

    def run(*words, **options):
        found.append(" ".join(map(str, words)))
        return ""

    secrets = dict.fromkeys(credentials.PASSWORDS, PASSWORD)
    monkeypatch.setattr(commands, "run", run)
    monkeypatch.setattr(commands, "output", run)
    monkeypatch.setattr(credentials, "passwords", lambda: secrets)
    monkeypatch.setattr(databases, "DATA", tmp_path)
    monkeypatch.setattr(databases, "state", State(tmp_path / "memory.json"))
    return found


@pytest.mark.parametrize(
    "action",
    [databases.make_databases, databases.sync_keystone, databases.sync_nova],
)
def test_no_password_is_in_a_command_line(command_lines, action, monkeypatch):
    monkeypatch.setattr(
        "cloud.install.python_packages.openstack_revision", lambda: "revision"
    )
    action()
    assert command_lines
    assert not any(PASSWORD in line for line in command_lines)


def test_a_log_has_the_command_but_not_its_input(tmp_path):
    commands.set_log(tmp_path / "log")
    printed = commands.output("/bin/cat", stdin=PASSWORD)
    assert printed == PASSWORD
    assert PASSWORD not in (tmp_path / "log").read_text()


def test_the_state_directory_is_not_listed_by_others():
    for path, (_, _, mode) in directories.OWNERS.items():
        assert not mode & 0o006, path
        assert path.is_relative_to(settings.STATE)
