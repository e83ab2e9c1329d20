# SPDX-License-Identifier: Apache-2.0
"""Fixtures for a mock registry."""

from __future__ import annotations

import pytest
import requests_mock

from docker_engine.registry import Registry
from tests.unit.docker_engine.registry.samples import AUTH
from tests.unit.docker_engine.registry.samples import HOST


@pytest.fixture
def http():
    # Not the plugin's fixture: it is imported before eventlet patches the library.
    with requests_mock.Mocker() as mocker:
        yield mocker


@pytest.fixture
def registry():
    return Registry(HOST, auth=AUTH)
