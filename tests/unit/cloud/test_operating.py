# SPDX-License-Identifier: Apache-2.0
"""Services of hosts without power."""

from __future__ import annotations

import contextlib

import pytest

from cloud import operating
from cloud import state
from cloud import supervisor
from cloud.errors import QuickstartError
from cloud.hosts import host as hosts
from cloud.hosts.host import Host


@pytest.fixture(autouse=True)
def stopped(tmp_path, monkeypatch):
    """A cloud with a host without power, in which no service runs."""
    monkeypatch.setattr(state.state, "_path", tmp_path / "memory.json")
    monkeypatch.setattr(operating, "state_lock", contextlib.nullcontext)
    monkeypatch.setattr(supervisor, "running", lambda: True)
    monkeypatch.setattr(supervisor, "states", list)
    hosts.set_count(3)
    Host(2).turn(on=False)


def test_status_tells_a_host_without_power_from_a_service_that_fails(capsys):
    with pytest.raises(SystemExit) as exit_:
        operating.status(as_json=False)
    assert exit_.value.code == 1
    lines = capsys.readouterr().out.splitlines()
    found = {line.split()[0]: line for line in lines if line.startswith("nova-compute")}
    assert " no power " in found["nova-compute@docker-host-2"]
    assert " not ready " in found["nova-compute@docker-host-3"]
    assert " not ready " in found["nova-compute"]


def test_a_service_of_a_host_without_power_is_not_restarted():
    with pytest.raises(
        QuickstartError, match=r"no power; .* \./quickstart host start docker-host-2$"
    ):
        operating.restart("nova-compute@docker-host-2")
