# SPDX-License-Identifier: Apache-2.0
"""What the driver relies on of an engine, true of the mock and of a real one."""

from __future__ import annotations

import contextlib
import datetime
import inspect
import io
import json
import queue
import re
import tarfile
import threading
import time
from concurrent import futures

import pytest

from docker_engine import errors
from docker_engine.client import DockerClient
from docker_engine.mock.client import MockDockerClient
from docker_engine.transport import http as http_transport
from tests import archives
from tests.conftest import IMAGE
from tests.contract.conftest import TIMEOUT

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


@pytest.fixture
def container(client):
    return client.create_container("nova-1", config())


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


def public(cls):
    return {
        name: member
        for name, member in inspect.getmembers_static(cls)
        if not name.startswith("_") or name == "__init__"
    }


def test_the_mock_has_the_clients_methods():
    real, mock = public(DockerClient), public(MockDockerClient)
    # And the three by which a test plays the engine's part.
    assert mock.keys() - real.keys() == {"exit", "fail_next", "write"}
    for name, member in real.items():
        assert type(member) is type(mock[name]), name
        if inspect.isfunction(member):
            parameters = [
                [(p.name, p.kind, p.default) for p in signature.parameters.values()]
                for signature in map(inspect.signature, (member, mock[name]))
            ]
            assert parameters[0] == parameters[1], name


def test_a_test_may_let_the_mock_fail():
    client = MockDockerClient()
    client.fail_next("info", errors.Unreachable("gone"))
    with pytest.raises(errors.Unreachable, match="gone"):
        client.info()
    assert client.info()["NCPU"] > 0
    with pytest.raises(AttributeError):
        client.fail_next("infos", errors.Unreachable("gone"))


def test_an_engine_answers(client):
    client.ping()
    assert client.api_version >= http_transport.MIN_API_VERSION
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


def test_a_container_has_what_its_image_says(client, container):
    archive = archives.busybox_archive(
        config={
            "Entrypoint": ["echo"],
            "Cmd": ["a"],
            "Env": ["PATH=/bin", "A=1", "B=1"],
            "User": "1:1",
            "WorkingDir": "/tmp",
            "Labels": {"image": "1", LABEL: "0"},
            "StopSignal": "SIGINT",
        },
        tags=["described:1"],
    )
    client.load_image([archive])
    own = client.create_container("own", config(Image="described:1", Env=["B=2"]))
    found = client.inspect_container(own)["Config"]
    assert (found["Entrypoint"], found["Cmd"]) == (["echo"], ["a"])
    assert set(found["Env"]) == {"PATH=/bin", "A=1", "B=2"}
    assert found["User"] == "1:1" and found["WorkingDir"] == "/tmp"
    assert found["Labels"] == {"image": "1", LABEL: "1"}
    assert found["StopSignal"] == "SIGINT"

    other = client.create_container(
        "other", config(Image="described:1", Entrypoint=["id"], User="2")
    )
    found = client.inspect_container(other)["Config"]
    assert (found["Entrypoint"], found["Cmd"]) == (["id"], None)
    assert found["User"] == "2"

    for ref in (own, other):
        client.remove_container(ref)
    client.remove_image("described:1")


def test_a_container_tells_where_its_files_are(client):
    archive = archives.busybox_archive(
        config={"Cmd": ["true"], "Volumes": {"/data": {}}}, tags=["kept:1"]
    )
    client.load_image([archive])
    mount = {"Type": "volume", "Source": "ours", "Target": "/ours"}
    host_config = {"NetworkMode": "none", "Mounts": [mount]}
    container = client.create_container(
        "nova-1", config(Image="kept:1", HostConfig=host_config)
    )
    found = client.inspect_container(container)
    graph = found["GraphDriver"]
    assert graph["Name"] == "overlay2"
    assert graph["Data"].keys() >= {"LowerDir", "UpperDir", "WorkDir"}
    volumes = {m["Destination"]: m for m in found["Mounts"] if m["Type"] == "volume"}
    assert volumes.keys() == {"/data", "/ours"}
    assert volumes["/ours"]["Name"] == "ours" and volumes["/data"]["Name"]
    client.remove_container(container)
    client.remove_image("kept:1")


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
        lambda c: c.rename_container("nova-2", "nova-3"),
        lambda c: c.update_container("nova-2", {}),
        lambda c: c.container_stats("nova-2"),
        lambda c: c.create_checkpoint("nova-2", "one"),
        lambda c: c.list_checkpoints("nova-2"),
        lambda c: c.remove_container("nova-2"),
        lambda c: c.container_logs("nova-2"),
        lambda c: c.put_archive("nova-2", "/", b""),
        lambda c: c.get_archive("nova-2", "/etc/passwd", max_size=1024),
        lambda c: c.create_exec("nova-2", {"Cmd": ["true"]}),
        lambda c: c.commit_container("nova-2", "a", "b", {}),
    ],
)
def test_a_missing_container_is_reported_as_one(client, call):
    with pytest.raises(errors.ContainerNotFound, match="No such container") as caught:
        call(client)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.inspect_image("no-such-image"),
        lambda c: c.tag_image("no-such-image", "a", "b"),
        lambda c: c.remove_image("no-such-image"),
        lambda c: c.create_container("nova-2", {"Image": "no-such-image"}),
    ],
)
def test_a_missing_image_is_not_taken_for_a_missing_container(client, call):
    with pytest.raises(errors.ImageNotFound, match="No such image") as caught:
        call(client)
    assert caught.value.status == 404


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


@pytest.mark.parametrize(
    "call",
    [
        lambda c, ref: c.get_archive(ref, "/no/such/file", max_size=1024),
        lambda c, ref: c.put_archive(ref, "/no/such/directory", b""),
    ],
)
def test_a_missing_file_is_not_taken_for_a_missing_container(client, container, call):
    with pytest.raises(errors.PathNotFound):
        call(client, container)


def test_an_end_is_told(client, run):
    before = datetime.datetime.now(datetime.UTC)
    state = client.inspect_container(run(code=3))["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert not state["Running"] and not state["Paused"] and state["Pid"] == 0
    # Not in this order: engines learn of a start later than it was, and of an
    # end when it was.
    for name in ("StartedAt", "FinishedAt"):
        at = datetime.datetime.fromisoformat(state[name])
        assert before <= at <= datetime.datetime.now(datetime.UTC), name


def test_what_has_ended_starts_again(client, container):
    client.start_container(container)
    client.stop_container(container, 0)
    client.start_container(container)
    state = client.inspect_container(container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("running", 0)
    assert state["StartedAt"] > state["FinishedAt"]


def test_a_name_is_free_again_after_removal(client, container):
    client.remove_container("nova-1")
    other = client.create_container("nova-1", config())
    assert client.inspect_container("nova-1")["Id"] == other != container


def test_a_paused_container(client, container):
    client.start_container(container)
    client.pause_container(container)
    with pytest.raises(errors.Conflict):
        client.pause_container(container)
    with pytest.raises(errors.Conflict):
        client.start_container(container)
    [listed] = client.list_containers(all=False)
    assert listed["State"] == "paused"
    client.stop_container(container, 0)
    assert status(client, container) == "exited"
    with pytest.raises(errors.DockerError):
        client.unpause_container(container)


@pytest.mark.usefixtures("with_criu")
def test_a_checkpoint_ends_a_container_that_goes_on_from_it(client, container):
    with pytest.raises(errors.EngineError, match="not running"):
        client.create_checkpoint(container, "one")
    with pytest.raises(errors.EngineError, match="does not exist"):
        client.start_container(container, checkpoint="one")
    assert client.list_checkpoints(container) == []

    client.start_container(container)
    client.create_checkpoint(container, "one")
    assert status(client, container) == "exited"
    assert client.list_checkpoints(container) == ["one"]

    def runs_on():
        # An engine may not have cleared its own copy away, see Guest.restore.
        with contextlib.suppress(errors.EngineError):
            client.start_container(container, checkpoint="one")
        return status(client, container) == "running"

    deadline = time.monotonic() + 9 * TIMEOUT
    while not runs_on() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status(client, container) == "running"

    client.delete_checkpoint(container, "one")
    assert client.list_checkpoints(container) == []
    with pytest.raises(errors.EngineError, match="does not exist"):
        client.delete_checkpoint(container, "one")


def test_one_of_many_threads_gets_a_name(client):
    def create(_):
        try:
            return client.create_container("nova-1", config())
        except errors.Conflict:
            return None

    with futures.ThreadPoolExecutor(8) as pool:
        created = [found for found in pool.map(create, range(8)) if found]
    assert created == [client.inspect_container("nova-1")["Id"]]


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


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"label": [f"{LABEL}=1", "b"]}, set()),
        ({"name": ["nova-1"]}, {"/nova-1"}),
        ({"name": ["^/nova-"]}, {"/nova-1", "/nova-2"}),
        ({"name": ["nova-2", "nova-1"]}, {"/nova-1", "/nova-2"}),
        ({"status": ["created"]}, {"/nova-1"}),
        ({"status": ["created", "running"]}, {"/nova-1", "/nova-2"}),
        ({"status": ["exited"]}, set()),
        ({"status": ["running"], "name": ["nova-1"]}, set()),
    ],
)
def test_containers_are_listed_by_more(client, container, filters, found):
    client.start_container(client.create_container("nova-2", config()))
    listed = client.list_containers(filters=filters)
    assert {name for item in listed for name in item["Names"]} == found


def test_containers_are_listed_by_id(client, container):
    client.create_container("nova-2", config())
    [found] = client.list_containers(filters={"id": [container[:12]]})
    assert found["Id"] == container
    assert client.inspect_container(container[:12])["Id"] == container


def test_a_filter_that_the_engine_does_not_know(client):
    with pytest.raises(errors.BadRequest, match="nonsense"):
        client.list_containers(filters={"nonsense": ["1"]})


def test_a_container_that_never_wrote_has_an_empty_log(client, container):
    assert client.container_logs(container) == b""


@pytest.mark.parametrize("tty", [False, True])
def test_a_log_has_the_last_lines_byte_for_byte(client, run, tty):
    output = b"one\n\xff\x00two\rtwo\nthree"
    # The log driver that is an engine's default keeps text alone.
    local = {"NetworkMode": "none", "LogConfig": {"Type": "local"}}
    container = run(output, Tty=tty, HostConfig=local)
    if tty:
        # What a terminal makes of the end of a line.
        output = output.replace(b"\n", b"\r\n")
    _one, two, three = re.findall(rb"[^\n]+\n?", output)
    assert client.container_logs(container) == output
    assert client.container_logs(container, tail=100) == output
    assert client.container_logs(container, tail=2) == two + three
    assert client.container_logs(container, tail=1) == three
    assert client.container_logs(container, tail=0) == b""


def test_events_say_of_whom_they_are(client, run):
    with client.events(filters={"event": ["die"]}) as stream:
        container = run(code=3, Labels={LABEL: "1"})
        event = next(stream)
    assert (event["Type"], event["Action"]) == ("container", "die")
    assert event["Actor"]["ID"] == container
    attributes = event["Actor"]["Attributes"]
    assert attributes["name"] == "played" and attributes["image"] == IMAGE
    assert attributes["exitCode"] == "3" and attributes[LABEL] == "1"
    assert event["timeNano"] // 10**9 == event["time"]


def test_events_in_order(client, container):
    actions, stream = listen(client, filters={"container": [container]})
    with stream:
        # What comes while the engine still takes the subscription is lost.
        time.sleep(0.1)
        client.create_container("other", config())
        client.start_container(container)
        client.pause_container(container)
        client.unpause_container(container)
        client.restart_container(container, 0)
        client.remove_container(container)
        told = []
        while not told or told[-1] != "destroy":
            told.append(actions.get(timeout=TIMEOUT))
    # Engines differ in whether a restart has these, or one of them twice.
    told = [action for action in told if action not in ("kill", "stop", "restart")]
    assert told == ["start", "pause", "unpause", "die", "start", "die", "destroy"]


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


def test_an_archive_of_two_images(client):
    first, second = (
        archives.members(archives.busybox_archive(config={"Cmd": [tag]}, tags=[tag]))
        for tag in ("first:1", "second:1")
    )
    manifests = [json.loads(m["manifest.json"]) for m in (first, second)]
    both = first | second
    del both["repositories"]
    both["manifest.json"] = json.dumps(manifests[0] + manifests[1]).encode()
    client.load_image([archives.tar(both)])
    for tag in ("first:1", "second:1"):
        assert client.inspect_image(tag)["Config"]["Cmd"] == [tag]
        client.remove_image(tag)


def test_an_image_has_an_id(client):
    image = client.inspect_image(IMAGE)
    assert image["Id"].startswith("sha256:") and IMAGE in names(image)
    for ref in (image["Id"], image["Id"][7:], image["Id"][:20], image["Id"][7:20]):
        assert client.inspect_image(ref)["Id"] == image["Id"]
    with pytest.raises(errors.NotFound):
        client.inspect_image("sha256:" + "0" * 64)


def test_an_image_without_a_name(client):
    archive = archives.busybox_archive(config={"Cmd": ["a"]})
    [message] = client.load_image([archive])
    image_id = message["stream"].rpartition(" ")[2].strip()
    assert client.inspect_image(image_id)["Config"]["Cmd"] == ["a"]
    client.remove_image(image_id)
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_an_image_in_use_stays(client):
    client.load_image(
        [archives.busybox_archive(config={"Cmd": ["b"]}, tags=["used:1"])]
    )
    container = client.create_container("nova-1", config(Image="used:1", Cmd=["sh"]))
    with pytest.raises(errors.Conflict):
        client.remove_image("used:1")
    client.start_container(container)
    image_id = client.inspect_image("used:1")["Id"]
    with pytest.raises(errors.Conflict):
        client.remove_image(image_id, force=True)
    client.remove_container(container)
    client.remove_image("used:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_an_image_goes_with_its_last_name(client):
    client.load_image([archives.busybox_archive(config={"Cmd": ["c"]}, tags=["one:1"])])
    client.tag_image("one:1", "two", "1")
    image_id = client.inspect_image("one:1")["Id"]
    with pytest.raises(errors.Conflict):
        client.remove_image(image_id)
    client.remove_image("one:1")
    assert names(client.inspect_image(image_id)) == {"two:1"}
    client.remove_image("two:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_images_are_listed_by_name(client):
    client.tag_image(IMAGE, "repo/listed", "1")
    client.tag_image(IMAGE, "repo/listed", "2")

    def listed(pattern):
        found = client.list_images({"reference": [pattern]})
        return {tag for image in found for tag in image["RepoTags"]}

    assert "repo/listed:1" in listed("repo/listed")
    assert "repo/listed:1" in listed("repo/*")
    assert "repo/listed:2" in listed("repo/listed:2")
    assert listed("listed") == set()
    with pytest.raises(errors.BadRequest, match="nonsense"):
        client.list_images({"nonsense": ["1"]})
    client.remove_image("repo/listed:1")
    client.remove_image("repo/listed:2")


def test_images_are_listed_with_their_names_and_places(client):
    client.tag_image(IMAGE, "listed", "1")
    [found] = client.list_images({"reference": ["listed"]})
    inspected = client.inspect_image(IMAGE)
    assert found["Id"] == inspected["Id"]
    # Docker 20.10 tells of the names that were asked for alone.
    assert "listed:1" in found["RepoTags"]
    # An image that was loaded is in no registry, engines with containerd's image
    # store say so of it all the same.
    assert isinstance(found["RepoDigests"] or [], list)
    client.remove_image("listed:1")


def test_events_tell_of_images(client):
    actions, stream = listen(client, filters={"type": ["image"]})
    with stream:
        time.sleep(0.1)
        client.tag_image(IMAGE, "told", "1")
        assert actions.get(timeout=TIMEOUT) == "tag"
        client.remove_image("told:1")
        assert actions.get(timeout=TIMEOUT) == "untag"
        archive = archives.busybox_archive(config={"Cmd": ["told"]}, tags=["told:2"])
        client.load_image([archive])
        told = [actions.get(timeout=TIMEOUT)]
        client.remove_image("told:2")
        while told[-1] != "delete":
            told.append(actions.get(timeout=TIMEOUT))
        # Engines with containerd's image store tell more.
        assert "load" in told


def test_what_no_registry_has_is_not_pulled(client):
    with pytest.raises(errors.DockerError):
        client.pull_image("127.0.0.1:1/nothing", "sha256:" + "0" * 64)
    with pytest.raises(errors.NotFound):
        client.inspect_image("127.0.0.1:1/nothing@sha256:" + "0" * 64)


def test_what_is_no_archive_is_not_loaded(client):
    def images():
        return {found["Id"]: set(found["RepoTags"]) for found in client.list_images()}

    before = images()
    with pytest.raises(errors.DockerError):
        client.load_image([b"not an archive " * 100])
    assert images() == before


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


def test_a_container_is_renamed(client, container):
    client.create_container("other", config())
    with pytest.raises(errors.Conflict, match="other"):
        client.rename_container("nova-1", "other")
    client.rename_container("nova-1", "nova-2")
    assert client.inspect_container("nova-2")["Id"] == container
    with pytest.raises(errors.NotFound):
        client.inspect_container("nova-1")


def test_limits_change_while_a_container_runs(client):
    host_config = {"NetworkMode": "none", "Memory": 64 * MIB, "MemorySwap": 64 * MIB}
    container = client.create_container("nova-1", config(HostConfig=host_config))
    client.start_container(container)
    before = client.inspect_container(container)["State"]
    for memory in (128 * MIB, 32 * MIB):
        client.update_container(
            container, {"Memory": memory, "MemorySwap": memory + MIB, "CpuShares": 512}
        )
        found = client.inspect_container(container)
        assert found["HostConfig"]["Memory"] == memory
        assert found["HostConfig"]["MemorySwap"] == memory + MIB
        assert found["HostConfig"]["CpuShares"] == 512
        assert found["State"] == before
    with pytest.raises(errors.BadRequest):
        client.update_container(container, {"Memory": 1024, "MemorySwap": 1024})


def test_stats_of_a_container(client, container):
    assert not client.container_stats(container)["memory_stats"].get("usage")
    client.start_container(container)
    stats = client.container_stats(container)
    assert 0 < stats["memory_stats"]["usage"] <= stats["memory_stats"]["limit"]
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_files_go_in_and_come_out_before_the_first_start(client, container):
    client.put_archive(container, "/", archives.tar({"note": b"hello"}))
    content = client.get_archive(container, "/note", max_size=10240)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        [member] = archive
        assert member.name == "note"
        assert archive.extractfile(member).read() == b"hello"
    with pytest.raises(errors.DockerError, match="larger"):
        client.get_archive(container, "/note", max_size=100)
    with pytest.raises(errors.NotFound):
        client.get_archive(container, "/no/such", max_size=10240)
    with pytest.raises(errors.NotFound):
        client.put_archive(container, "/no/such", archives.tar({"note": b"hello"}))


def test_a_file_does_not_take_the_place_of_a_directory(client, container):
    directory = tarfile.TarInfo("kept")
    directory.type = tarfile.DIRTYPE
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(directory)
    client.put_archive(container, "/", target.getvalue())
    with pytest.raises(errors.DockerError, match="overwrite"):
        client.put_archive(container, "/", archives.tar({"kept": b""}))


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


def test_a_command_is_run_beside_the_first_process(client, container):
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


def test_a_container_tells_what_it_runs(client):
    made = client.create_container(
        "nova-2", config(Entrypoint=["sh", "-c"], Cmd=["sleep 60"])
    )
    found = client.inspect_container(made)
    assert (found["Path"], found["Args"]) == ("sh", ["-c", "sleep 60"])
    assert not found["ExecIDs"]


def test_a_terminal_is_shared_and_outlives_its_viewers(client, container):
    client.start_container(container)
    with client.attach_container(container, detach_keys="ctrl-p,ctrl-q") as stream:
        client.resize_container(container, 40, 100)
        answer_of(stream, b"echo hello\n", b"hello")
    assert status(client, container) == "running"


def test_an_image_is_made_of_a_container_and_comes_back(client, container):
    base = client.inspect_image(IMAGE)
    made = client.commit_container(
        container,
        "made",
        "1",
        {"Cmd": ["other"], "Env": ["A=1"], "Labels": {LABEL: ""}},
    )
    found = client.inspect_image("made:1")
    assert found["Id"] == made
    assert found["Config"]["Cmd"] == ["other"]
    assert "A=1" in found["Config"]["Env"]
    # The container's labels are there, as the new value says.
    assert found["Config"]["Labels"] == {LABEL: ""}
    saved = client.save_image(made)
    content = saved.read(512) + saved.read()
    saved.close()
    client.remove_image(made)
    client.load_image([content])
    again = client.inspect_image(made)
    assert again["Config"]["Cmd"] == ["other"]
    layers = base["RootFS"]["Layers"]
    assert again["RootFS"]["Layers"][: len(layers)] == layers
    client.remove_image(made)
    with pytest.raises(errors.DockerError):
        client.save_image(made)
