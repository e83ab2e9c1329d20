# SPDX-License-Identifier: Apache-2.0
"""What becomes of a host in Nova when it is removed: cloud.resources.host."""

from __future__ import annotations

import types

import pytest

from cloud.errors import QuickstartError
from cloud.resources import host


class Compute:
    """The Compute API with one nova-compute."""

    def __init__(self, servers, status="enabled"):
        self.names, self.status = servers, status

    def services(self, **_):
        return [types.SimpleNamespace(status=self.status)]

    def servers(self, **_):
        elsewhere = types.SimpleNamespace(name="other", compute_host="docker-host")
        return [elsewhere] + [
            types.SimpleNamespace(name=name, compute_host="docker-host-2")
            for name in self.names
        ]

    def disable_service(self, service):
        self.status = "disabled"

    def enable_service(self, service):
        self.status = "enabled"


@pytest.fixture
def nova(monkeypatch):
    def found(*servers, status="enabled"):
        compute = Compute(servers, status)
        cloud = types.SimpleNamespace(compute=compute)
        monkeypatch.setattr(host, "connect", lambda: cloud)
        return compute

    return found


def test_a_host_that_will_be_removed_gets_no_servers_any_more(nova):
    compute = nova()
    host.retire("docker-host-2")
    assert compute.status == "disabled"


@pytest.mark.parametrize("status", ["enabled", "disabled"])
def test_a_host_with_servers_stays_as_it_was(nova, status):
    compute = nova("web", "db", status=status)
    with pytest.raises(QuickstartError, match=r"has servers \(web, db\); delete them"):
        host.retire("docker-host-2")
    assert compute.status == status
