# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all kinds of tests."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest

from tests import archives
from tests import criu
from tests import engine as engines

IMAGE = "nova-docker-test:latest"


@pytest.fixture(scope="session")
def engine() -> Iterator[engines.Engine]:
    """A real engine with the image ``IMAGE``: busybox, which runs a shell."""
    with engines.running() as engine:
        engine.client.load_image([archives.busybox_archive(tags=[IMAGE])])
        yield engine


@pytest.fixture(scope="session")
def criu_tree(request: pytest.FixtureRequest) -> pathlib.Path:
    """A Debian tree with CRIU, kept between runs."""
    return criu.tree(pathlib.Path(request.config.cache.mkdir("criu")))
