# SPDX-License-Identifier: Apache-2.0
"""Images."""

from __future__ import annotations

import collections
import time

from docker_engine.client import DockerClient


def test_loading_takes_the_time_it_takes(engine):
    def slowly(handler):
        # Nothing is read, so the client waits to send; then nothing is said.
        time.sleep(0.5)
        collections.deque(handler.upload(), maxlen=0)
        time.sleep(1.5)
        handler.stream([b'{"stream": "a"}\n'])

    engine.answers["POST /images/load"] = slowly
    client = DockerClient(engine.host, connect_timeout=0.1, read_timeout=1)
    assert client.load_image([b"x" * 2**22]) == [{"stream": "a"}]
