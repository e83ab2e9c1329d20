# SPDX-License-Identifier: Apache-2.0
"""Servers whose files would block the engine, and servers that do not answer."""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import re
import tarfile
import threading
import time

import pytest
from nova import context
from nova import exception
from nova.compute import power_state
from nova.compute import task_states

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker import config_drive
from nova_docker import terminal
from tests import archives
from tests import samples
from tests.attacks import attack
from tests.functional.host import eventually
from tests.functional.host import state


@pytest.fixture
def answers(engine):
    """The engine answers for every container when the test ends."""
    yield
    for found in engine.client.list_containers():
        engine.client.inspect_container(found["Id"], timeout=2)


def layer_with(*members: tarfile.TarInfo, content=None) -> bytes:
    """Return a layer of busybox with further members, which have no content.

    :param content: of more files, by name
    """
    base = io.BytesIO(archives.busybox_layer(content))
    target = io.BytesIO()
    added = {member.name for member in members}
    with (
        tarfile.open(fileobj=base) as source,
        tarfile.open(fileobj=target, mode="w") as archive,
    ):
        for member in source:
            if member.name not in added:
                archive.addfile(member, source.extractfile(member))
        for member in members:
            archive.addfile(member)
    return target.getvalue()


def member(name: str, kind: bytes, linkname: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, linkname
    made.devmajor, made.devminor = 1, 3
    return made


@attack(
    "Block the engine with a named pipe",
    tried="a server replaces /etc/passwd or /etc/group, which the engine reads when it "
    "starts the server, by a named pipe, a link to one, a directory or a large sparse "
    "file, and reboots",
    held_by="the driver looks at both files before each start, without opening them",
)
@pytest.mark.parametrize(
    "script",
    [
        "rm /etc/passwd; busybox mkfifo /etc/passwd",
        "busybox mkfifo /etc/group",
        "busybox mkfifo /p; busybox ln -s /p /link; busybox ln -s /link /etc/group",
        "busybox mkdir /etc/group",
        # The size only has to be beyond the limit: this is safe without the fix, too.
        "busybox truncate -s 64M /etc/group",
    ],
)
def test_a_server_whose_files_would_block_the_engine_is_not_started(
    driver, boot, answers, script
):
    server = boot()
    server.run(script)
    with pytest.raises(exception.InstancePowerOnFailure, match="rescue"):
        driver.reboot(
            context.get_admin_context(), server.instance, server.network_info, "HARD"
        )
    assert state(driver, server) == power_state.SHUTDOWN


@attack(
    "Block the engine with an image",
    tried="an image has a named pipe or a device as /etc/passwd, also below a volume "
    "whose own /etc/passwd is a regular file or missing",
    held_by="the driver looks at the files of a new container before it starts; a "
    "volume of the image hides none of them, and a mount that does is refused",
)
@pytest.mark.parametrize(
    ("files", "volumes"),
    [
        ([member("etc/passwd", tarfile.FIFOTYPE)], []),
        ([member("etc/passwd", tarfile.CHRTYPE)], []),
        ([member("etc/passwd", tarfile.FIFOTYPE)], ["/etc"]),
        (
            [
                member("etc/passwd", tarfile.FIFOTYPE),
                member("alias", tarfile.SYMTYPE, "/"),
            ],
            ["/alias/etc"],
        ),
    ],
)
def test_an_image_that_would_block_the_engine_is_not_started(
    driver, boot, image, answers, files, volumes
):
    config = {"Volumes": {path: {} for path in volumes}}
    archive = archives.archive([layer_with(*files)], config=config)
    with pytest.raises(exception.NovaException, match="/etc/passwd"):
        boot(image(archive))


@attack(
    "Keep a server from being repaired",
    tried="a server replaces /etc/passwd by a named pipe and is rescued",
    held_by="the rescue container has the image's files; the server's are mounted",
)
def test_a_server_that_is_not_started_can_be_mended_in_rescue(
    driver, boot, image, answers
):
    server = boot()
    ctxt = context.get_admin_context()
    server.run("rm /etc/passwd; busybox mkfifo /etc/passwd")
    driver.power_off(server.instance)
    with pytest.raises(exception.InstancePowerOnFailure):
        driver.power_on(ctxt, server.instance, server.network_info)
    driver.rescue(ctxt, server.instance, server.network_info, image(), None, None, None)
    server.run("rm /mnt/rescue/etc/passwd; echo root:x:0:0:::>/mnt/rescue/etc/passwd")
    server.instance.get_network_info = lambda: server.network_info
    driver.unrescue(ctxt, server.instance)
    assert state(driver, server) == power_state.RUNNING


@attack(
    "Hang what runs in a server",
    tried="a server replaces /etc/passwd by a named pipe, which the OCI runtime reads "
    "for each command; then its password is changed three times",
    held_by="the OCI runtime's time to start a command is limited, and commands of "
    "images without a user do not name one, so that the engine reads nothing",
)
def test_commands_that_hang_do_not_keep_a_server_from_being_deleted(
    driver, boot, answers, monkeypatch
):
    monkeypatch.setattr("nova_docker.guest._RUN_SECONDS", 0.5)
    server = boot()
    server.run("rm /etc/passwd; busybox mkfifo /etc/passwd")
    for _ in range(3):
        with pytest.raises(exception.NovaException):
            driver.set_admin_password(server.instance, "secret")
    assert state(driver, server) == power_state.RUNNING
    driver.destroy(None, server.instance, server.network_info)
    assert not driver.instance_exists(server.instance)


@attack(
    "Race the driver's look at the files that the engine reads",
    tried="a server whose image has a user swaps /etc/passwd for a named pipe and "
    "back in a tight loop, while its password is changed 12 times",
    held_by="the server is frozen from the driver's look until the engine has read",
)
def test_a_server_cannot_swap_its_files_between_the_look_and_the_read(
    driver, boot, image, engine, answers
):
    swap = (
        "busybox mkfifo /t/pipe; busybox cp /etc/passwd /t/file; "
        "while :; do busybox ln -f /t/pipe /t/a; busybox mv -f /t/a /etc/passwd; "
        "busybox ln -f /t/file /t/b; busybox mv -f /t/b /etc/passwd; done"
    )
    passwd = b"root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n"
    writable = [member(name, tarfile.DIRTYPE) for name in ("etc", "t")]
    for directory in writable:
        directory.mode, directory.uid = 0o777, 33
    layer = layer_with(*writable, content={"etc/passwd": passwd})
    archive = archives.archive(
        [layer], config={"User": "www", "Entrypoint": ["sh", "-c", swap]}
    )
    server = boot(image(archive))
    pid = engine._process.pid
    before = len(blocked(pid))
    outcomes = set()
    for _ in range(12):
        try:
            driver.set_admin_password(server.instance, "secret")
        except exception.NovaException as error:
            outcomes.add(type(error))
    # Some looks found a file: there was something to race for.
    assert exception.SetAdminPasswdNotSupported in outcomes
    assert len(blocked(pid)) == before
    assert state(driver, server) == power_state.RUNNING


@attack(
    "Have the engine mount on a directory of the host",
    tried="a server whose image has a user exchanges a directory above its config "
    "drive for a link to the host's, in a tight loop, while its password is changed",
    held_by="the server is frozen before the driver asks the engine to look at its "
    "files, for which the engine mounts the config drive once more",
)
def test_a_server_cannot_redirect_what_the_engine_mounts_for_a_look(
    driver, boot, image, answers, monkeypatch, tmp_path
):
    names = ("openstack/latest/meta_data.json", "openstack/latest/user_data")
    files = dict.fromkeys(names, b'{"uuid": "1", "hostname": "a"}')
    monkeypatch.setattr(config_drive, "_contents", lambda *args: files)
    swap = (
        f"cd /var/lib; busybox mv -T cloud old; busybox ln -s {tmp_path} link; "
        "while :; do busybox rm -rf cloud; busybox mv -T link cloud; "
        "busybox mv -T cloud link; done"
    )
    config = {"User": "0", "Entrypoint": ["sh", "-c", swap]}
    server = boot(image(config=config), config_drive="True")
    status = pathlib.Path("/proc", str(server.inspect()["State"]["Pid"]), "status")

    def switches():
        return re.findall(r"ctxt_switches:\s+\d+", status.read_text())

    assert eventually(lambda: switches() != switches())
    look = DockerClient.stat_path
    frozen = []

    def watched(*args):
        before = switches()
        time.sleep(0.02)
        frozen.append(switches() == before)
        return look(*args)

    with monkeypatch.context() as patch:
        patch.setattr(DockerClient, "stat_path", watched)
        with contextlib.suppress(exception.NovaException):
            driver.set_admin_password(server.instance, "secret")
    assert frozen and all(frozen)
    for _ in range(20):
        with contextlib.suppress(exception.NovaException):
            driver.set_admin_password(server.instance, "secret")
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in pathlib.Path("/proc/mounts").read_text()


@pytest.fixture
def ticking(boot, image):
    """A server that logs all the time, and whose image has a user."""
    layer = layer_with(content={"etc/passwd": b"root:x:0:0::/:/bin/sh\n"})
    tick = "while :; do echo; busybox usleep 20000; done"
    config = {"User": "33", "Entrypoint": ["sh", "-c", tick]}
    return boot(image(archives.archive([layer], config=config)))


def runs(server):
    """Return whether a server runs at any time in the next six seconds.

    A freeze of the OCI runtime would have ended by then.
    """

    def ticks():
        return len(server.engine.client.container_logs(server.name, tail=10**6))

    before = ticks()
    time.sleep(6)
    return ticks() != before


@attack(
    "Run while frozen",
    tried="a server whose image has a user has an open console; the server is paused, "
    "or frozen for a snapshot, and the viewer leaves",
    held_by="the driver ends no shell of a frozen server, and the OCI runtime thaws "
    "only what it has frozen itself",
)
@pytest.mark.parametrize("looked", [True, False])
def test_a_console_that_closes_does_not_thaw_its_server(
    driver, ticking, engine, monkeypatch, looked
):
    inspect = engine.client.inspect_container

    def as_before(ref, **options):
        # It is frozen right after the driver's look.
        found = inspect(ref, **options)
        return found | {"State": found["State"] | {"Paused": False}}

    def leave(shell):
        with monkeypatch.context() as patched:
            if not looked:
                patched.setattr(engine.client, "inspect_container", as_before)
            shell.close()
        assert not runs(ticking)
        assert state(driver, ticking) == power_state.PAUSED

    shell = terminal.open_terminal(engine.client, ticking.instance.uuid)
    assert not shell.shared and runs(ticking)
    with driver._power.held(ticking.instance):
        leave(shell)
    assert runs(ticking)
    shell = terminal.open_terminal(engine.client, ticking.instance.uuid)
    driver.pause(ticking.instance)
    leave(shell)
    driver.unpause(ticking.instance)
    assert runs(ticking)


def blocked(pid):
    """Return the threads of a process that wait for a named pipe to be opened."""
    threads = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return [t for t in threads if (t / "wchan").read_text() == "wait_for_partner"]


@contextlib.contextmanager
def wedged(engine, server):
    """Let the engine hang in the start of a server, as an operator could.

    The driver refuses to start it.
    """
    server.run("rm /etc/passwd; busybox mkfifo /etc/passwd")
    root = pathlib.Path(server.inspect()["GraphDriver"]["Data"]["MergedDir"])
    engine.client.stop_container(server.name, 0)

    def start():
        with contextlib.suppress(errors.DockerError):
            DockerClient(engine.host, read_timeout=1).start_container(server.name)

    starting = threading.Thread(target=start)
    starting.start()
    starting.join()
    pipe = root / "etc" / "passwd"
    try:
        assert eventually(pipe.is_fifo)
        yield
    finally:
        # The engine's open() returns, and what it reads next is a file again.
        stream = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        (root / "etc" / "new").write_text("root:x:0:0::/:/bin/sh\n")
        os.rename(root / "etc" / "new", pipe)
        time.sleep(0.5)
        os.close(stream)


@attack(
    "Stop a host with one server that does not answer",
    tried="the engine hangs in a call on one server; meanwhile another server boots, "
    "nova-compute restarts and synchronises power states, and the server is deleted",
    held_by="each call on a container has a time limit, states come from the engine's "
    "list if a container does not answer, and a deletion is completed later and holds "
    "no thread that boots need",
)
def test_a_server_that_does_not_answer_stops_nothing_else(
    engine, make_driver, boot, caplog, monkeypatch
):
    monkeypatch.setattr("nova_docker.guest._INFO_SECONDS", 1)
    server = boot(task_state=None)
    with wedged(engine, server):
        driver = make_driver()
        other = boot()
        assert state(driver, other) == power_state.RUNNING
        assert state(driver, server) == power_state.SHUTDOWN
        assert server.instance.uuid in driver.list_instance_uuids()
        # None of these waits for the read timeout of 120 seconds.
        began = time.monotonic()
        driver.plug_vifs(server.instance, server.network_info)
        assert "Failed to limit the server" in caplog.text
        with pytest.raises(exception.NovaException, match="did not answer in time"):
            driver.destroy(None, server.instance, server.network_info)
        server.instance.task_state = task_states.DELETING
        driver.destroy(None, server.instance, server.network_info)
        assert f"{server.name} does not answer and is not removed yet" in caplog.text
        assert time.monotonic() - began < 60
        # Nova reaps what it has deleted and the driver still lists.
        assert server.instance.uuid in driver.list_instance_uuids()
    assert eventually(lambda: not driver.instance_exists(server.instance))


@attack(
    "Delay a host with the images that snapshots leave",
    tried="the engine hangs in a call on one server, and so removes no image; three "
    "snapshots have left theirs, and nova-compute restarts and runs its periodic tasks",
    held_by="nothing waits for such a removal for longer than ten seconds, and after "
    "the first image that is not removed in time, the others are left for later",
)
def test_images_that_cannot_be_removed_delay_nothing_else(
    engine, make_driver, boot, monkeypatch
):
    monkeypatch.setattr("nova_docker.guest._INFO_SECONDS", 1)
    monkeypatch.setattr("nova_docker.image.snapshot._REMOVE_SECONDS", 1)
    server, other = boot(), boot()
    for _ in range(3):
        engine.client.commit_container(
            other.name, f"nova-snapshot/{samples.uuid()}", "latest", {}
        )
    with wedged(engine, server):
        began = time.monotonic()
        driver = make_driver()
        driver.manage_image_cache(None, [])
        assert snapshot_images(engine)
        # One removal would wait for the read timeout of 120 seconds.
        assert time.monotonic() - began < 60
    driver.manage_image_cache(None, [])
    assert eventually(lambda: not snapshot_images(engine))


def snapshot_images(engine):
    return engine.client.list_images({"reference": ["nova-snapshot/*"]})
