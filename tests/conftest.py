# SPDX-License-Identifier: Apache-2.0
"""What tests of several kinds share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import archives
from tests import engine as engines

IMAGE = "nova-docker-test:latest"


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.Engine]:
    """A real engine, with the image ``IMAGE``: busybox, whose command is a shell."""
    with engines.running() as engine:
        engine.client.load_image([archives.busybox_archive(tags=[IMAGE])])
        yield engine
