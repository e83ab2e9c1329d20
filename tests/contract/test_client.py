# SPDX-License-Identifier: Apache-2.0
"""What the driver relies on of an engine, true of the mock and of a real one."""

from __future__ import annotations

import inspect
import queue
import threading
import time

import pytest

from nova_docker import client as clients
from nova_docker import errors
from nova_docker.mock_client import MockDockerClient
from tests import archives
from tests.conftest import IMAGE

LABEL = "org.openstack.nova.uuid"
TIMEOUT = 10


def config(**values):
    return {
        "Image": IMAGE,
        "Tty": True,
        "OpenStdin": True,
        "Labels": {LABEL: "1"},
        "HostConfig": {"NetworkMode": "none"},
    } | values


@pytest.fixture
def container(client):
    return client.create_container("nova-1", config())


def status(client, container):
    return client.inspect_container(container)["State"]["Status"]


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


def public(cls):
    return {
        name: inspect.signature(method)
        for name, method in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") or name == "__init__"
    }


def test_the_mock_has_the_clients_methods():
    mock = public(MockDockerClient)
    for name, signature in public(clients.DockerClient).items():
        real, fake = signature.parameters, mock[name].parameters
        assert [(p.name, p.kind, p.default) for p in real.values()] == [
            (p.name, p.kind, p.default) for p in fake.values()
        ], name


def test_an_engine_answers(client):
    client.ping()
    assert client.api_version >= clients.MIN_API_VERSION
    assert {"Version", "ApiVersion", "Arch"} <= client.version().keys()


def test_info_has_what_the_driver_reads(client):
    info = client.info()
    assert isinstance(info["NCPU"], int) and isinstance(info["MemTotal"], int)
    assert info["ID"] and info["ServerVersion"] and info["Architecture"]
    assert info["Driver"] and info["DockerRootDir"].startswith("/")
    assert "nova" in info["Runtimes"]


def test_a_container_is_created_stopped(client, container):
    found = client.inspect_container("nova-1")
    assert found["Id"] == container
    assert found["Name"] == "/nova-1"
    assert found["State"]["Status"] == "created"
    assert not found["State"]["Running"]
    assert found["Config"]["Labels"] == {LABEL: "1"}
    assert found["Image"] == client.inspect_image(IMAGE)["Id"]


def test_a_name_is_taken_once(client, container):
    with pytest.raises(errors.Conflict, match="nova-1"):
        client.create_container("nova-1", config())


def test_a_container_needs_an_image_that_is_there(client):
    with pytest.raises(errors.NotFound):
        client.create_container("nova-1", config(Image="no-such-image:latest"))


def test_a_container_needs_some_memory(client):
    host_config = {"NetworkMode": "none", "Memory": 2**20}
    with pytest.raises(errors.BadRequest, match="memory"):
        client.create_container("nova-1", config(HostConfig=host_config))


def test_a_life(client, container):
    client.start_container(container)
    running = client.inspect_container(container)["State"]
    assert running["Status"] == "running" and running["Running"] and running["Pid"] > 0

    client.pause_container(container)
    assert client.inspect_container(container)["State"]["Paused"]
    assert status(client, container) == "paused"

    client.unpause_container(container)
    assert status(client, container) == "running"

    client.stop_container(container, 0)
    stopped = client.inspect_container(container)["State"]
    assert stopped["Status"] == "exited"
    assert stopped["ExitCode"] == 137 and stopped["Pid"] == 0

    client.restart_container(container, 0)
    assert status(client, container) == "running"

    client.remove_container(container)
    with pytest.raises(errors.NotFound):
        client.inspect_container(container)


def test_starting_and_stopping_twice_is_no_error(client, container):
    client.start_container(container)
    client.start_container(container)
    client.stop_container(container, 0)
    client.stop_container(container, 0)
    assert status(client, container) == "exited"


def test_a_kill_ends_a_container(client, container):
    client.start_container(container)
    client.kill_container(container)
    deadline = time.monotonic() + TIMEOUT
    while status(client, container) == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status(client, container) == "exited"


def test_what_does_not_run_cannot_be_killed_or_paused(client, container):
    with pytest.raises(errors.Conflict):
        client.kill_container(container)
    with pytest.raises(errors.Conflict):
        client.pause_container(container)


def test_what_runs_is_only_removed_by_force(client, container):
    client.start_container(container)
    with pytest.raises(errors.Conflict):
        client.remove_container(container, force=False)
    client.remove_container(container)
    assert client.list_containers() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.inspect_container("nova-2"),
        lambda c: c.start_container("nova-2"),
        lambda c: c.stop_container("nova-2", 0),
        lambda c: c.restart_container("nova-2", 0),
        lambda c: c.kill_container("nova-2"),
        lambda c: c.pause_container("nova-2"),
        lambda c: c.unpause_container("nova-2"),
        lambda c: c.remove_container("nova-2"),
        lambda c: c.container_logs("nova-2"),
        lambda c: c.inspect_image("no-such-image"),
        lambda c: c.tag_image("no-such-image", "a", "b"),
        lambda c: c.remove_image("no-such-image"),
    ],
)
def test_what_is_not_there_is_not_found(client, call):
    with pytest.raises(errors.NotFound) as caught:
        call(client)
    assert caught.value.status == 404
    assert "No such" in caught.value.message


def test_containers_are_listed_by_label(client, container):
    client.create_container("other", config(Labels={}))
    running = client.create_container("nova-2", config(Labels={LABEL: "2"}))
    client.start_container(running)

    servers = client.list_containers(filters={"label": [LABEL]})
    assert {found["Labels"][LABEL] for found in servers} == {"1", "2"}
    assert {found["Names"][0] for found in servers} == {"/nova-1", "/nova-2"}

    [second] = client.list_containers(filters={"label": [f"{LABEL}=2"]})
    assert second["Id"] == running and second["State"] == "running"

    assert len(client.list_containers()) == 3
    [up] = client.list_containers(all=False)
    assert up["Id"] == running


def test_a_container_that_never_wrote_has_an_empty_log(client, container):
    assert client.container_logs(container) == b""


def test_events_tell_a_life_as_it_happens(client, container):
    wanted = {"type": ["container"], "event": ["start", "die", "destroy"]}
    actions, stream = listen(client, filters={**wanted, "label": [LABEL]})
    with stream:
        other = client.create_container("other", config(Labels={}))
        client.start_container(other)
        client.start_container(container)
        assert actions.get(timeout=TIMEOUT) == "start"
        client.stop_container(container, 0)
        assert actions.get(timeout=TIMEOUT) == "die"
        client.remove_container(container)
        assert actions.get(timeout=TIMEOUT) == "destroy"


def test_earlier_events_are_remembered(client, container):
    before = time.time()
    client.start_container(container)
    actions, stream = listen(client, since=before, filters={"event": ["start"]})
    with stream:
        assert actions.get(timeout=TIMEOUT) == "start"


def test_a_closed_stream_ends(client):
    actions, stream = listen(client)
    stream.close()
    assert actions.get(timeout=TIMEOUT) is None


@pytest.mark.parametrize("oci", [False, True])
def test_an_archive_becomes_an_image(client, oci):
    archive = archives.busybox_archive(
        config={"Cmd": ["sleep", "9"]}, tags=["loaded:1"], oci=oci
    )
    messages = client.load_image(iter([archive[:1000], archive[1000:]]))
    assert any("Loaded image" in message.get("stream", "") for message in messages)

    image = client.inspect_image("loaded:1")
    assert image["Config"]["Cmd"] == ["sleep", "9"]
    assert len(image["RootFS"]["Layers"]) == 1 and image["Size"] > 0
    assert "loaded:1" in [
        tag for found in client.list_images() for tag in found["RepoTags"]
    ]
    client.remove_image("loaded:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image("loaded:1")


def test_what_is_no_archive_is_not_loaded(client):
    before = client.list_images()
    with pytest.raises(errors.DockerError):
        client.load_image([b"not an archive " * 100])
    assert client.list_images() == before


def test_an_upload_that_fails_leaves_nothing_and_says_its_own_error(client):
    archive = archives.busybox_archive(tags=["half:1"])

    def chunks():
        yield archive[: len(archive) // 2]
        raise LookupError("the other half")

    with pytest.raises(LookupError, match="the other half"):
        client.load_image(chunks())
    with pytest.raises(errors.NotFound):
        client.inspect_image("half:1")


def test_a_tag_moves(client):
    client.tag_image(IMAGE, "moving", "1")
    assert client.inspect_image("moving:1")["Id"] == client.inspect_image(IMAGE)["Id"]
    client.load_image([archives.busybox_archive(config={"Cmd": ["id"]}, tags=["b:1"])])
    client.tag_image("b:1", "moving", "1")
    assert client.inspect_image("moving:1")["Id"] == client.inspect_image("b:1")["Id"]
    [found] = client.list_images({"reference": ["moving"]})
    assert "moving:1" in found["RepoTags"]
    client.remove_image("moving:1")
    client.remove_image("b:1")
