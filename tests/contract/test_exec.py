# SPDX-License-Identifier: Apache-2.0
"""Commands in a running container."""

from __future__ import annotations

import pytest

from docker_engine import errors
from tests.contract.helpers import answer_of


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.inspect_exec("0" * 64),
        lambda c: c.start_exec("0" * 64, tty=False),
        lambda c: c.resize_exec("0" * 64, 24, 80),
    ],
)
def test_a_missing_exec_is_reported_as_one(client, call):
    with pytest.raises(errors.ExecNotFound, match="No such exec"):
        call(client)


def test_a_command_runs_beside_the_first_process(client, container):
    command = {"Cmd": ["sh"], "Tty": True, "AttachStdin": True, "AttachStdout": True}
    with pytest.raises(errors.Conflict):
        client.create_exec(container, command)
    client.start_container(container)
    run = client.create_exec(container, command)
    with client.start_exec(run, tty=True) as stream:
        assert client.inspect_exec(run)["Running"]
        client.resize_exec(run, 40, 100)
        answer_of(stream, b"echo hello\n", b"hello")
        stream.sendall(b"exit\n")
        while stream.recv(4096):
            pass
    ended = client.inspect_exec(run)
    assert (ended["Running"], ended["ExitCode"]) == (False, 0)
    client.pause_container(container)
    with pytest.raises(errors.Conflict):
        client.create_exec(container, command)
    with pytest.raises(errors.NotFound):
        client.inspect_exec("0" * 64)
