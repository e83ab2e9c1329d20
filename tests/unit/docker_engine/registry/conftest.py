# SPDX-License-Identifier: Apache-2.0
"""A registry in a mock of HTTP."""

from __future__ import annotations

import pytest
import requests_mock

from docker_engine.registry import Registry
from tests.unit.docker_engine.registry.samples import AUTH
from tests.unit.docker_engine.registry.samples import HOST


@pytest.fixture
def http():
    # Not the plugin's fixture: under eventlet it is imported too early.
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def registry():
    return Registry(HOST, auth=AUTH)
