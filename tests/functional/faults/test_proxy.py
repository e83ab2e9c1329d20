# SPDX-License-Identifier: Apache-2.0
"""The proxy: calls pass unchanged, and each fault is what its name says."""

from __future__ import annotations

import contextlib
import time

import pytest

from docker_engine import errors
from tests import archives
from tests.conftest import IMAGE
from tests.functional.faults import proxy as proxies
from tests.functional.faults.proxy import Fault
from tests.functional.faults.proxy import template

CREATE = "POST /containers/create"
BODY = {"Image": IMAGE, "Cmd": ["cat"], "OpenStdin": True, "Tty": True}


@pytest.fixture
def proxy(engine):
    directory = engine.programs.parent
    with proxies.running(engine.host.removeprefix("unix://"), directory) as proxy:
        yield proxy


@pytest.fixture
def name(engine):
    """The name of a container that a test may create."""
    yield "proxied"
    with contextlib.suppress(errors.ContainerNotFound):
        engine.client.remove_container("proxied")


def exists(engine):
    names = [name for c in engine.client.list_containers() for name in c["Names"]]
    return "/proxied" in names


@pytest.mark.parametrize(
    ("method", "path", "endpoint"),
    [
        ("GET", "/info", "GET /info"),
        ("GET", "/containers/json", "GET /containers/json"),
        ("POST", "/containers/create", "POST /containers/create"),
        ("DELETE", "/containers/nova-1", "DELETE /containers/{id}"),
        ("POST", "/containers/nova-1/start", "POST /containers/{id}/start"),
        (
            "DELETE",
            "/containers/nova-1/checkpoints/suspended",
            "DELETE /containers/{id}/checkpoints/{name}",
        ),
        ("GET", "/exec/12ab/json", "GET /exec/{id}/json"),
        ("GET", "/images/nova-glance/1:latest/json", "GET /images/{name}/json"),
        ("DELETE", "/images/nova-glance/1:latest", "DELETE /images/{name}"),
        ("POST", "/images/load", "POST /images/load"),
    ],
)
def test_a_template_has_no_ids(method, path, endpoint):
    assert template(method, path) == endpoint


def test_without_a_fault_calls_uploads_and_streams_pass(engine, proxy, name, images):
    client = proxy.client
    client.load_image([archives.busybox_archive(tags=["proxied:latest"])])
    with client.events(since=time.time()) as events:
        client.create_container(name, BODY)
        assert next(events)["Action"] == "create"
    client.start_container(name)
    with client.attach_container(name, detach_keys="ctrl-]") as terminal:
        terminal.sendall(b"hello\n")
        assert b"hello" in terminal.recv(100)
    archive = client.save_image("proxied:latest")
    assert len(archive.read()) > 100_000
    archive.close()


@pytest.mark.parametrize(
    ("fault", "error", "acted"),
    [
        (Fault.REFUSED, errors.Unreachable, False),
        (Fault.GONE, errors.Unreachable, False),
        (Fault.RESET, errors.Unreachable, False),
        (Fault.RESET_AFTER, errors.Unreachable, True),
        (Fault.ERROR, errors.EngineError, False),
        (Fault.CONFLICT, errors.Conflict, False),
        (Fault.HANG, errors.Timeout, True),
        (Fault.LATE, errors.Timeout, False),
        (Fault.TRUNCATED, errors.DockerError, True),
    ],
)
def test_a_fault_hits_one_call_before_or_after_the_engine_acts(
    engine, proxy, name, fault, error, acted
):
    client = proxy.client
    client.info()
    proxy.arm(CREATE, 1, fault)
    with pytest.raises(error):
        client.create_container(name, BODY)
    assert proxy.hit
    assert exists(engine) == acted
    if fault is Fault.GONE:
        with pytest.raises(errors.Unreachable):
            client.info()
    proxy.disarm()
    assert exists(engine) == (acted or fault is Fault.LATE)
    assert client.info()


def test_a_refused_call_finds_nobody_listening(proxy):
    proxy.client.info()
    proxy.arm("GET /info", 1, Fault.REFUSED)
    with pytest.raises(errors.Unreachable, match="Connection refused"):
        proxy.client.info()


def test_only_the_chosen_call_fails(engine, proxy):
    proxy.client.info()
    proxy.arm("GET /info", 2, Fault.ERROR)
    proxy.client.info()
    with pytest.raises(errors.EngineError):
        proxy.client.info()
    proxy.client.info()
    assert proxy.calls == ["GET /info"] * 3
