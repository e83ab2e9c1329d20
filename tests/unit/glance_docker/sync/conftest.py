# SPDX-License-Identifier: Apache-2.0
"""An engine and a Glance in memory, and what keeps the one listed in the other."""

from __future__ import annotations

import contextlib
import io

import pytest

from docker_engine.mock.client import MockDockerClient
from glance_docker.gateway import ImageGateway
from glance_docker.sync import access_rules
from glance_docker.sync.reconcile import Reconciler
from tests import archives

LAYER = archives.tar({"etc/motd": b"hello\n"})


class Engine(MockDockerClient):
    """An engine that can fail.

    :ivar broken: references of images whose export breaks off
    :ivar saved: references of the images that have been exported
    :ivar away: the error that all calls raise, if there is one
    """

    def __init__(self):
        super().__init__()
        self.broken = set()
        self.saved = []
        self.away = None

    def _call(self, method):
        if self.away:
            raise self.away
        super()._call(method)

    def save_image(self, ref):
        self.saved.append(ref)
        stream = super().save_image(ref)
        if ref in self.broken:
            content = stream.read()
            return io.BytesIO(content[: len(content) // 2])
        return stream

    def load(self, *tags, **config):
        """Load an image with these tags, and return its ID."""
        self.load_image([archives.archive([LAYER], tags=tags, config=config)])
        return self.inspect_image(tags[0])["Id"]


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def start(engine, server):
    """Returns a new reconciler, as a start of glance-docker-sync makes one."""
    with contextlib.ExitStack() as stack:

        def new(*rules, default="public"):
            reconciler = Reconciler(
                engine,
                ImageGateway(server.adapter()),
                "local",
                access_rules.Rules(rules, default),
                workers=4,
            )
            return stack.enter_context(contextlib.closing(reconciler))

        yield new


@pytest.fixture
def reconciler(start):
    return start()
