# SPDX-License-Identifier: Apache-2.0
"""When the quickstart creates or completes its virtual environment."""

from __future__ import annotations

import pytest

from cloud import commands
from cloud import settings
from cloud.install import debian_packages
from cloud.install import python_packages
from cloud.state import State


@pytest.fixture
def state(tmp_path, monkeypatch):
    state = State(tmp_path / "memory.json")
    monkeypatch.setattr(python_packages, "state", state)
    return state


@pytest.fixture
def ran(monkeypatch):
    """The arguments of all commands, which do not run."""
    found = []
    monkeypatch.setattr(debian_packages, "install", lambda names: None)
    monkeypatch.setattr(commands, "run", lambda *words, **_: found.extend(words))
    return found


def test_a_virtual_environment_gets_its_tools_once(state, ran):
    python_packages.make_venv()
    assert set(python_packages.TOOLS) <= set(ran)
    ran.clear()
    python_packages.make_venv()
    assert ran == []


def test_a_virtual_environment_from_before_bindep_gets_it(state, ran):
    state.set("supervisor", "supervisor==4.3.0")
    python_packages.make_venv()
    assert "bindep" in ran


def test_requirements_of_all_parts_of_the_project_are_installed(state, ran):
    python_packages.install_openstack()
    for path in python_packages.REQUIREMENTS:
        assert path.exists()
        assert f"--requirement={path}" in ran
    assert set(settings.SOURCE.glob("require*.txt")) < set(python_packages.REQUIREMENTS)


def test_the_files_that_the_project_is_built_from_exist():
    for name in python_packages.PROJECT_FILES:
        assert (settings.SOURCE / name).exists()
