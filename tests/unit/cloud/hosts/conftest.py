# SPDX-License-Identifier: Apache-2.0
"""A cloud's state, files and programs, none of which are those of this machine."""

from __future__ import annotations

import pytest

from cloud import cgroup
from cloud import commands
from cloud import settings
from cloud import state
from cloud.errors import QuickstartError
from cloud.hosts import host


class Programs:
    """Records the commands that are run, and runs none of them."""

    def __init__(self):
        self.ran = []
        self.failing = set()

    def run(self, *command, check=True, **_):
        words = [str(word) for word in command]
        self.ran.append(" ".join(words))
        if words[0] not in self.failing:
            return 0
        if check:
            raise QuickstartError(f"{words[0]} failed")
        return 1

    def python(self, module, *arguments):
        self.run(module, *arguments)


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")
    for name in ("ETC", "DATA", "RUN"):
        directory = tmp_path / name.lower()
        directory.mkdir()
        monkeypatch.setattr(host, name, directory)
    monkeypatch.setattr(settings, "LOG", tmp_path)
    (tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(cgroup, "_TOP", tmp_path / "cgroup")
    found = Programs()
    monkeypatch.setattr(commands, "run", found.run)
    monkeypatch.setattr(commands, "run_python", found.python)
    monkeypatch.setattr(commands, "output", lambda *_, **__: "")
    return found
