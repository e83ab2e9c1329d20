# SPDX-License-Identifier: Apache-2.0
"""Containers: states, limits, lists, logs, files, terminals."""

from __future__ import annotations

import contextlib
import datetime
import io
import re
import tarfile
import time
from concurrent import futures

import pytest

from docker_engine import errors
from tests import archives
from tests.conftest import IMAGE
from tests.contract.helpers import LABEL
from tests.contract.helpers import MIB
from tests.contract.helpers import TIMEOUT
from tests.contract.helpers import answer_of
from tests.contract.helpers import config
from tests.contract.helpers import status


def test_a_container_is_created_stopped(client, container):
    found = client.inspect_container("nova-1")
    assert found["Id"] == container
    assert found["Name"] == "/nova-1"
    assert found["State"]["Status"] == "created"
    assert not found["State"]["Running"]
    assert found["Config"]["Labels"] == {LABEL: "1"}
    assert found["Image"] == client.inspect_image(IMAGE)["Id"]


def test_a_container_inherits_its_images_configuration(client, container):
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


def test_a_container_shows_its_file_system_and_volumes(client):
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


def test_a_name_can_be_used_once(client, container):
    with pytest.raises(errors.Conflict, match="nova-1"):
        client.create_container("nova-1", config())


def test_a_container_needs_an_existing_image(client):
    with pytest.raises(errors.NotFound):
        client.create_container("nova-1", config(Image="no-such-image:latest"))


def test_a_tiny_memory_limit_is_rejected(client):
    host_config = {"NetworkMode": "none", "Memory": 2**20}
    with pytest.raises(errors.BadRequest, match="memory"):
        client.create_container("nova-1", config(HostConfig=host_config))


def test_a_container_goes_through_its_states(client, container):
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


def test_a_kill_stops_a_container(client, container):
    client.start_container(container)
    client.kill_container(container)
    deadline = time.monotonic() + TIMEOUT
    while status(client, container) == "running" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status(client, container) == "exited"


def test_a_stopped_container_cannot_be_killed_or_paused(client, container):
    with pytest.raises(errors.Conflict):
        client.kill_container(container)
    with pytest.raises(errors.Conflict):
        client.pause_container(container)


def test_a_list_has_the_exit_codes_of_containers(client, container):
    client.start_container(container)
    client.stop_container(container, 0)
    [listed] = client.list_containers()
    assert listed["Status"].startswith("Exited (137) ")


def test_a_running_container_is_only_removed_by_force(client, container):
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
        lambda c, ref: c.get_archive(ref, "/no/such/file", max_size=1024),
        lambda c, ref: c.put_archive(ref, "/no/such/directory", b""),
    ],
)
def test_a_missing_file_is_not_taken_for_a_missing_container(client, container, call):
    with pytest.raises(errors.PathNotFound):
        call(client, container)


def test_an_exited_container_shows_its_exit_code_and_times(client, run):
    before = datetime.datetime.now(datetime.UTC)
    state = client.inspect_container(run(code=3))["State"]
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert not state["Running"] and not state["Paused"] and state["Pid"] == 0
    # Not in this order: engines record a start late, and an end when it happens.
    for name in ("StartedAt", "FinishedAt"):
        at = datetime.datetime.fromisoformat(state[name])
        assert before <= at <= datetime.datetime.now(datetime.UTC), name


def test_an_exited_container_starts_again(client, container):
    client.start_container(container)
    client.stop_container(container, 0)
    client.start_container(container)
    state = client.inspect_container(container)["State"]
    assert (state["Status"], state["ExitCode"]) == ("running", 0)
    assert state["StartedAt"] > state["FinishedAt"]


def test_a_name_is_free_after_removal(client, container):
    client.remove_container("nova-1")
    other = client.create_container("nova-1", config())
    assert client.inspect_container("nova-1")["Id"] == other != container


def test_a_paused_container_cannot_be_paused_or_started(client, container):
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


def test_only_one_of_many_threads_gets_a_name(client):
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
def test_containers_are_listed_by_name_and_status(client, container, filters, found):
    client.start_container(client.create_container("nova-2", config()))
    listed = client.list_containers(filters=filters)
    assert {name for item in listed for name in item["Names"]} == found


def test_containers_are_listed_by_id(client, container):
    client.create_container("nova-2", config())
    [found] = client.list_containers(filters={"id": [container[:12]]})
    assert found["Id"] == container
    assert client.inspect_container(container[:12])["Id"] == container


def test_an_unknown_filter_is_rejected(client):
    with pytest.raises(errors.BadRequest, match="nonsense"):
        client.list_containers(filters={"nonsense": ["1"]})


def test_a_container_without_output_has_an_empty_log(client, container):
    assert client.container_logs(container) == b""


@pytest.mark.parametrize("tty", [False, True])
def test_a_log_has_the_last_lines_byte_for_byte(client, run, tty):
    output = b"one\n\xff\x00two\rtwo\nthree"
    # The default log driver keeps only text.
    local = {"NetworkMode": "none", "LogConfig": {"Type": "local"}}
    container = run(output, Tty=tty, HostConfig=local)
    if tty:
        # A terminal translates line ends.
        output = output.replace(b"\n", b"\r\n")
    _one, two, three = re.findall(rb"[^\n]+\n?", output)
    assert client.container_logs(container) == output
    assert client.container_logs(container, tail=100) == output
    assert client.container_logs(container, tail=2) == two + three
    assert client.container_logs(container, tail=1) == three
    assert client.container_logs(container, tail=0) == b""


def test_a_container_can_be_renamed(client, container):
    client.create_container("other", config())
    with pytest.raises(errors.Conflict, match="other"):
        client.rename_container("nova-1", "other")
    client.rename_container("nova-1", "nova-2")
    assert client.inspect_container("nova-2")["Id"] == container
    with pytest.raises(errors.NotFound):
        client.inspect_container("nova-1")


def test_limits_can_be_changed_while_a_container_is_running(client):
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


def test_only_a_running_container_has_stats(client, container):
    assert not client.container_stats(container)["memory_stats"].get("usage")
    client.start_container(container)
    stats = client.container_stats(container)
    assert 0 < stats["memory_stats"]["usage"] <= stats["memory_stats"]["limit"]
    assert stats["cpu_stats"]["cpu_usage"]["total_usage"] > 0


def test_files_can_be_copied_before_the_first_start(client, container):
    client.put_archive(container, "/", archives.tar({"note": b"hello"}))
    content = client.get_archive(container, "/note", max_size=10240)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        [member] = archive
        assert member.name == "note"
        assert archive.extractfile(member).read() == b"hello"
    with pytest.raises(errors.DockerError, match="larger"):
        client.get_archive(container, "/note", max_size=100)
    assert client.has_path(container, "/note")
    assert not client.has_path(container, "/no/such")
    assert not client.has_path("no-such-container", "/note")
    with pytest.raises(errors.NotFound):
        client.get_archive(container, "/no/such", max_size=10240)
    with pytest.raises(errors.NotFound):
        client.put_archive(container, "/no/such", archives.tar({"note": b"hello"}))


def test_a_file_is_described_without_being_opened(client, container):
    pipe = tarfile.TarInfo("pipe")
    pipe.type = tarfile.FIFOTYPE
    directory = tarfile.TarInfo("etc2")
    directory.type = tarfile.DIRTYPE
    target = io.BytesIO(archives.tar({"note": b"hello", "link": "note"}))
    with tarfile.open(fileobj=target, mode="a") as archive:
        archive.addfile(pipe)
        archive.addfile(directory)
    client.put_archive(container, "/", target.getvalue())

    note = client.stat_path(container, "/note")
    assert (note["name"], note["size"], note["mode"]) == ("note", 5, 0o755)
    assert note["linkTarget"] == ""
    link = client.stat_path(container, "/link")
    assert link["mode"] & 1 << 27 and link["linkTarget"] == "/note"
    assert client.stat_path(container, "/pipe")["mode"] & 1 << 25
    assert client.stat_path(container, "/etc2")["mode"] & 1 << 31
    for ref in (container, "nova-2"):
        with pytest.raises(errors.PathNotFound):
            client.stat_path(ref, "/no/such/file")


def test_a_file_does_not_replace_a_directory(client, container):
    directory = tarfile.TarInfo("kept")
    directory.type = tarfile.DIRTYPE
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.addfile(directory)
    client.put_archive(container, "/", target.getvalue())
    with pytest.raises(errors.DockerError, match="overwrite"):
        client.put_archive(container, "/", archives.tar({"kept": b""}))


def test_a_container_is_removed_by_two_at_the_same_time(client, container):
    client.start_container(container)

    def remove(_):
        with contextlib.suppress(errors.ContainerNotFound):
            client.remove_container("nova-1")
        return [found["Names"] for found in client.list_containers()]

    with futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(remove, range(4))) == [[]] * 4


def test_a_container_shows_its_command(client):
    made = client.create_container(
        "nova-2", config(Entrypoint=["sh", "-c"], Cmd=["sleep 60"])
    )
    found = client.inspect_container(made)
    assert (found["Path"], found["Args"]) == ("sh", ["-c", "sleep 60"])
    assert not found["ExecIDs"]


def test_a_terminal_stays_open_when_a_client_detaches(client, container):
    client.start_container(container)
    with client.attach_container(container, detach_keys="ctrl-p,ctrl-q") as stream:
        client.resize_container(container, 40, 100)
        answer_of(stream, b"echo hello\n", b"hello")
    assert status(client, container) == "running"


def test_the_size_of_a_container_counts_its_own_files_and_its_image(client, container):
    before = client.inspect_container(container, size=True)
    assert before["SizeRw"] < MIB <= before["SizeRootFs"]
    assert "SizeRw" not in client.inspect_container(container)
    client.put_archive(container, "/", archives.tar({"file": bytes(3 * MIB)}))
    after = client.inspect_container(container, size=True)
    assert after["SizeRw"] - before["SizeRw"] == 3 * MIB
    assert after["SizeRootFs"] - before["SizeRootFs"] == 3 * MIB
