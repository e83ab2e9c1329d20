# SPDX-License-Identifier: Apache-2.0
"""Commands that the driver runs as root in a server, beside its first process.

If the image has no user, everything runs as root, and no user is named: the engine then
reads no file of the server. If it has one, the engine looks root up in the server's
files. The server is frozen before the driver looks at them, until the engine has read
them: it can neither replace them in between nor redirect what the engine mounts for the
look (:mod:`nova_docker.accounts`).
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

from oslo_concurrency import lockutils

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import accounts

# To the OCI runtime, bin/nova-docker-runtime, this means: freeze the server until its
# next exec, and: no longer. The runtime itself ends that after five seconds. It refuses
# to hold a server that is frozen already.
_HOLD = "61"
_RELEASE = "60"
_HELD_SECONDS = 5
# Each look at the files, and the engine's own, must be over before the hold ends.
_SPARE_SECONDS = 2
# More than the runtime gives an exec: one that arrived late would end the next hold.
_START_SECONDS = 15
_POLL_SECONDS = 0.02


def start(
    client: DockerClient,
    found: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    tty: bool,
    created: Callable[[str], None] = lambda exec_id: None,
) -> tuple[str, socket.socket]:
    """Start a command as root.

    Engine calls: POST /containers/{id}/exec, POST /exec/{id}/start; if the image has a
    user, also GET /containers/{id}/json, HEAD /containers/{id}/archive, POST
    /containers/{id}/kill and GET /exec/{id}/json

    :param found: the container: the response of GET /containers/{id}/json
    :param config: body of POST /containers/{id}/exec, without a user
    :param created: called with the exec's id before it starts
    :returns: the exec's id, and its input and output
    :raises Unreadable: if the engine must not read the server's files
    :raises Conflict: if the server does not run, or is paused
    :raises DockerError: if the engine fails
    """

    def create(**user: str) -> str:
        exec_id = client.create_exec(found["Id"], {**config, **user})
        created(exec_id)
        return exec_id

    if not found["Config"]["User"]:
        exec_id = create()
        return exec_id, client.start_exec(exec_id, tty=tty)
    # One at a time: the start of one thaws the server for all.
    with lockutils.lock(found["Id"], lock_file_prefix="docker-exec-"):
        # What was found may be old: a snapshot or a user may have frozen it since.
        state = client.inspect_container(found["Id"])["State"]
        if state["Paused"] or not state["Running"]:
            raise errors.Conflict("the server is paused or does not run")
        deadline = time.monotonic() + _HELD_SECONDS - _SPARE_SECONDS
        client.kill_container(found["Id"], _HOLD)
        try:
            accounts.check_files(client, found, lambda: _refuse_after(deadline))
            _refuse_after(deadline)
            exec_id = create(User="0")
            _refuse_after(deadline)
            stream = client.start_exec(exec_id, tty=tty)
        except BaseException:
            # If this fails as well, the runtime ends it.
            with contextlib.suppress(errors.DockerError):
                client.kill_container(found["Id"], _RELEASE)
            raise
        _wait_for_start(client, exec_id)
        return exec_id, stream


def _refuse_after(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise accounts.Unreadable(
            "the engine is too slow to look at the server's files while it is frozen"
        )


def _wait_for_start(client: DockerClient, exec_id: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        state = client.inspect_exec(exec_id)
        if state["Pid"] or state["ExitCode"] is not None:
            return
        time.sleep(_POLL_SECONDS)
