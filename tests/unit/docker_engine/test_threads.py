# SPDX-License-Identifier: Apache-2.0
"""The client works on native and on green threads."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import threading

from tests.unit.docker_engine.http_engine import TIMEOUT

ROOT = str(pathlib.Path(__file__).parents[3])

EVENTLET = """
import sys
import eventlet
eventlet.monkey_patch()
import time
from docker_engine.client import DockerClient

client = DockerClient(sys.argv[1])
stream = client.events()
got = []
follower = eventlet.spawn(lambda: got.extend(stream))
calls = [eventlet.spawn(client.start_container, "a") for _ in range(4)]
for call in calls:
    call.wait()
assert client.load_image(iter([b"a", b"b"])) == [{"stream": "Loaded"}]
while not got:
    time.sleep(0.01)
with eventlet.Timeout(5):
    stream.close()
    follower.wait()
assert got == [{"n": 1}], got
"""


def test_the_client_works_on_green_threads(engine, happen):
    """The four calls wait for each other, so they must run at the same time."""
    barrier = threading.Barrier(4)

    def start(handler):
        barrier.wait(TIMEOUT)
        handler.answer(204)

    def load(handler):
        assert b"".join(handler.upload()) == b"ab"
        handler.stream([b'{"stream": "Loaded"}\n'])

    engine.answers["POST /containers/a/start"] = start
    engine.answers["POST /images/load"] = load
    happen.put(b'{"n": 1}\n')
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", EVENTLET, engine.host],
        env={**os.environ, "PYTHONPATH": ROOT},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_eventlet_is_not_imported():
    program = "import sys, docker_engine.client; assert 'eventlet' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
