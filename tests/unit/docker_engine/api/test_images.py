# SPDX-License-Identifier: Apache-2.0
"""Timeouts while an image is loaded."""

from __future__ import annotations

import collections
import time

from docker_engine.client import DockerClient


def test_loading_may_take_longer_than_the_read_timeout(engine):
    def slowly(handler):
        # First the engine does not read, so sending stalls; then it does not respond.
        time.sleep(0.5)
        collections.deque(handler.upload(), maxlen=0)
        time.sleep(1.5)
        handler.stream([b'{"stream": "a"}\n'])

    engine.answers["POST /images/load"] = slowly
    client = DockerClient(engine.host, connect_timeout=0.1, read_timeout=1)
    assert client.load_image([b"x" * 2**22]) == [{"stream": "a"}]
