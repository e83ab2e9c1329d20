# SPDX-License-Identifier: Apache-2.0
"""No test connects this host to a volume."""

from __future__ import annotations

import pytest

from tests.unit.nova_docker import fake_volumes


@pytest.fixture(autouse=True)
def connector(monkeypatch):
    fake = fake_volumes.Connector()
    monkeypatch.setattr(
        "os_brick.initiator.connector.InitiatorConnector.factory", fake.factory
    )
    return fake
