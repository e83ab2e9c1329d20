# SPDX-License-Identifier: Apache-2.0
"""Shares through Nova's API, with stand-ins for Manila's and for an NFS server."""

from __future__ import annotations

import pytest

from tests import storage
from tests.cloud import manila
from tests.cloud.conftest import eventually


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    with storage.serving(tmp_path_factory.mktemp("storage")) as directory:
        yield directory


@pytest.fixture(scope="module")
def shares(admin):
    with manila.running(admin.identity) as found:
        yield found


def status(demo, server, share_id):
    return demo.compute.get_share_attachment(server.id, share_id).status


def test_a_server_has_a_share_from_its_next_start_until_it_is_detached(
    boot, demo, shares, exports
):
    share_id = shares.create(storage.STORAGE)
    (exports / share_id).mkdir()
    (exports / share_id / "file").write_text("of the share\n")
    server = boot()
    server.act("stop_server", until="SHUTOFF")

    demo.compute.create_share_attachment(server.id, share_id, tag="data")
    assert eventually(lambda: status(demo, server, share_id) == "inactive")
    [rule] = shares.access.values()
    assert rule["access_level"] == "rw"

    server.act("start_server", until="ACTIVE")
    assert status(demo, server, share_id) == "active"
    assert server.run("cat /mnt/shares/data/file") == "of the share\n"
    server.run("echo of the server > /mnt/shares/data/file")
    assert (exports / share_id / "file").read_text() == "of the server\n"

    server.act("reboot_server", "HARD", until="ACTIVE")
    assert server.run("cat /mnt/shares/data/file") == "of the server\n"

    server.act("stop_server", until="SHUTOFF")
    assert not storage.mounts()
    demo.compute.delete_share_attachment(server.id, share_id)
    assert eventually(lambda: not shares.access)

    server.act("start_server", until="ACTIVE")
    assert server.run("ls -A /mnt/shares/data") == ""


def test_a_server_whose_share_cannot_be_mounted_starts_once_it_can(
    boot, demo, shares, exports
):
    share_id = shares.create(storage.STORAGE)
    server = boot()
    server.act("stop_server", until="SHUTOFF")
    demo.compute.create_share_attachment(server.id, share_id, tag="data")
    assert eventually(lambda: status(demo, server, share_id) == "inactive")

    demo.compute.start_server(server.id)
    assert eventually(lambda: server.status == "ERROR")
    assert "mount" in server.show().fault["message"].lower()

    (exports / share_id).mkdir()
    server.act("reboot_server", "HARD", until="ACTIVE")
    server.run("touch /mnt/shares/data/file")
    demo.compute.delete_server(server.id)
    demo.compute.wait_for_delete(server.show(), interval=0.2, wait=60)
    assert not storage.mounts()
    assert eventually(lambda: not shares.access)
