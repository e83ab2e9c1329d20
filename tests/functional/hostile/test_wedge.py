# SPDX-License-Identifier: Apache-2.0
"""Servers whose files would block the engine, and servers that do not answer."""

from __future__ import annotations

import io
import tarfile

import pytest
from nova import context
from nova import exception
from nova.compute import power_state

from tests import archives
from tests.attacks import attack
from tests.functional.host import state


@pytest.fixture
def answers(engine):
    """The engine answers for every container when the test ends."""
    yield
    for found in engine.client.list_containers():
        engine.client.inspect_container(found["Id"], timeout=2)


def layer_with(*members: tarfile.TarInfo) -> bytes:
    """Return a layer of busybox with further members, which have no content."""
    base = io.BytesIO(archives.busybox_layer())
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
    held_by="the driver looks at the files of a new container before it starts, and "
    "refuses a mount that hides them",
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
