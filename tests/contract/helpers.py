# SPDX-License-Identifier: Apache-2.0
"""What contract tests share."""

from __future__ import annotations

import queue
import threading

from tests.conftest import IMAGE

TIMEOUT = 10  # seconds
MIB = 2**20

LABEL = "org.openstack.nova.uuid"


def config(**values):
    return {
        "Image": IMAGE,
        "Tty": True,
        "OpenStdin": True,
        "Labels": {LABEL: "1"},
        "HostConfig": {"NetworkMode": "none"},
    } | values


def status(client, container):
    return client.inspect_container(container)["State"]["Status"]


def names(image):
    return set(image["RepoTags"])


def listen(client, **arguments):
    """A queue to which a thread puts the actions of events, with their stream."""
    actions = queue.Queue()
    stream = client.events(**arguments)

    def follow():
        try:
            for event in stream:
                actions.put(event["Action"])
        finally:
            actions.put(None)

    threading.Thread(target=follow, daemon=True).start()
    return actions, stream


def answer_of(stream, typed, expected):
    """What a terminal shows, until it has shown ``expected``."""
    stream.settimeout(TIMEOUT)
    stream.sendall(typed)
    shown = b""
    while expected not in shown:
        chunk = stream.recv(4096)
        assert chunk, shown
        shown += chunk
    return shown
