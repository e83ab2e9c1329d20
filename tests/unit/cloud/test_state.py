# SPDX-License-Identifier: Apache-2.0
"""The quickstart's state file."""

from __future__ import annotations

import concurrent.futures
import json
import stat

from cloud import credentials
from cloud import settings
from cloud import state
from cloud.state import State


def test_values_outlive_the_process(tmp_path):
    path = tmp_path / "memory.json"
    assert State(path).get("engine", "default") == "default"
    State(path).set("engine", "/run/docker.sock")
    State(path).set("made_user", True)
    assert State(path).get("engine") == "/run/docker.sock"
    assert json.loads(path.read_text()) == {
        "engine": "/run/docker.sock",
        "made_user": True,
    }


def test_steps_that_run_at_the_same_time_lose_no_value(tmp_path):
    found = State(tmp_path / "memory.json")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: found.set(str(n), n), range(50)))
    assert all(found.get(str(n)) == n for n in range(50))


def test_only_root_reads_the_file_because_it_has_passwords(tmp_path):
    State(tmp_path / "memory.json").set("secrets", {})
    assert stat.S_IMODE((tmp_path / "memory.json").stat().st_mode) == 0o600


def test_the_file_keeps_the_name_that_a_running_cloud_has_given_it():
    assert state.state._path == settings.STATE / "memory.json"


def test_passwords_are_generated_once(tmp_path, monkeypatch):
    monkeypatch.setattr(credentials, "state", State(tmp_path / "memory.json"))
    first = credentials.passwords()
    assert set(first) == set(credentials.PASSWORDS)
    assert credentials.passwords() == first
    assert State(tmp_path / "memory.json").get("secrets") == first


def test_a_cloud_of_an_earlier_version_keeps_its_passwords(tmp_path, monkeypatch):
    earlier = State(tmp_path / "memory.json")
    earlier.set("secrets", {"database": "old"})
    monkeypatch.setattr(credentials, "state", earlier)
    found = credentials.passwords()
    assert found.pop("database") == "old"
    assert set(found) == set(credentials.PASSWORDS) - {"database"}
