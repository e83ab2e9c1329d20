# SPDX-License-Identifier: Apache-2.0
"""A fake Glance, and the gateway to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from glance_docker.gateway import ImageGateway
from tests import glance


@pytest.fixture
def server() -> Iterator[Any]:
    with glance.running() as server:
        yield server


@pytest.fixture
def gateway(server: Any) -> ImageGateway:
    return ImageGateway(server.adapter())
