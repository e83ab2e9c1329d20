# SPDX-License-Identifier: Apache-2.0
"""Helpers for contract tests."""

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
    """Follow events in a thread; return a queue of their actions, and the stream."""
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
    """Type into a terminal and return its output up to and including ``expected``."""
    stream.settimeout(TIMEOUT)
    stream.sendall(typed)
    shown = b""
    while expected not in shown:
        chunk = stream.recv(4096)
        assert chunk, shown
        shown += chunk
    return shown
