# SPDX-License-Identifier: Apache-2.0
"""Calls of a privileged daemon that ends."""

from __future__ import annotations

import pytest

from nova_docker.privsep import contexts
from nova_docker.privsep import network


class Channel:
    """A connection to a daemon.

    :param ends: whether the daemon ends during the call
    """

    def __init__(self, ends, error=None):
        self.running = True
        self.ends = ends
        self.error = error
        self.calls = []

    def remote_call(self, name, args, kwargs, timeout):
        self.calls.append((name, args))
        self.running = not self.ends
        if self.ends or self.error:
            raise self.error or OSError("Premature eof")
        return "done"


@pytest.fixture
def daemons(monkeypatch):
    """Starts the daemons that a test lists, one after the other."""
    context = contexts.netns_admin
    waiting = []
    monkeypatch.setattr(context, "client_mode", True)
    monkeypatch.setattr(context, "channel", None)
    monkeypatch.setattr(
        context, "start", lambda: setattr(context, "channel", waiting.pop(0))
    )
    monkeypatch.setattr(context, "stop", lambda: setattr(context, "channel", None))
    return waiting


def test_a_call_is_made_again_if_the_daemon_is_killed_during_it(daemons):
    first, second = daemons[:] = [Channel(ends=True), Channel(ends=False)]
    assert network.cut("nova-1") == "done"
    name = "nova_docker.privsep.network.cut"
    assert first.calls == second.calls == [(name, ("nova-1",))]


def test_a_call_is_not_made_a_third_time(daemons):
    daemons[:] = [Channel(ends=True), Channel(ends=True)]
    with pytest.raises(OSError, match="Premature eof"):
        network.cut("nova-1")


def test_an_error_of_the_function_itself_is_raised_at_once(daemons):
    error = FileNotFoundError("no namespace")
    daemons[:] = [channel := Channel(ends=False, error=error)]
    with pytest.raises(FileNotFoundError):
        network.cut("nova-1")
    assert len(channel.calls) == 1


def test_a_daemon_only_serves_functions_of_its_context():
    assert contexts.netns_admin.is_entrypoint(network.cut)
    assert not contexts.userns_admin.is_entrypoint(network.cut)
    assert not contexts.netns_admin.is_entrypoint(network._set_host_ends)
