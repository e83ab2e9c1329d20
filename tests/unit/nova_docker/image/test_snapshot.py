# SPDX-License-Identifier: Apache-2.0
"""Snapshots: which are refused, and what an interrupted one leaves."""

from __future__ import annotations

import io
import threading
from unittest import mock

import pytest
from nova import conf as nova_conf
from nova import exception
from oslo_utils import units

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.container import naming
from nova_docker.image import snapshot
from nova_docker.image.snapshot import CheckedArchive
from nova_docker.image.snapshot import Snapshots
from nova_docker.nics import Nics
from nova_docker.power import Power
from nova_docker.storage.space import DiskSpace
from nova_docker.storage.space import NoSpace
from tests import archives
from tests import samples

CONF = nova_conf.CONF


class Glance:
    """A stand-in for ``nova.image.glance.API``."""

    def __init__(self):
        self.during = lambda image_id: None
        self.received = None

    def update(self, context, image_id, image_info, data, purge_props):
        self.during(image_id)
        self.received = b"".join(iter(lambda: data.read(65536), b""))


class Taking:
    """A running server, and what takes its snapshot."""

    def __init__(self, path):
        self.client = MockDockerClient()
        self.client.load_image([archives.busybox_archive(tags=["image"])])
        self.glance = Glance()
        self.power = Power(
            self.client,
            mock.create_autospec(Nics, instance=True),
            lambda *args: {},
        )
        self.space = DiskSpace(lambda: str(path))
        self.snapshots = Snapshots(self.client, self.glance, self.power, self.space)
        self.instance = samples.instance()
        self.name = naming.name_of(self.instance.uuid)
        labels = naming.labels(self.instance)
        self.client.create_container(self.name, {"Image": "image", "Labels": labels})
        self.client.start_container(self.name)

    def take(self):
        image_id = samples.uuid()
        self.snapshots.take(None, self.instance, image_id, lambda **states: None)
        return image_id

    @property
    def status(self):
        return self.client.inspect_container(self.name)["State"]["Status"]

    @property
    def tags(self):
        found = self.client.list_images({"reference": ["nova-snapshot/*"]})
        tags = [tag for image in found for tag in image["RepoTags"]]
        return [tag for tag in tags if tag.startswith("nova-snapshot/")]


@pytest.fixture
def server(tmp_path, monkeypatch):
    CONF.set_override("state_path", str(tmp_path))
    # The tests do not depend on the free space of this machine.
    monkeypatch.setattr(DiskSpace, "_free", lambda space: (100 * units.Gi, 10**9))
    found = Taking(tmp_path)
    yield found
    assert found.tags == []
    CONF.clear_override("state_path")


@pytest.mark.parametrize(
    ("own", "root_gb", "refused"),
    [
        (0, 1, False),
        (units.Gi, 1, False),
        (units.Gi + 1, 1, True),
        (units.Ti, 0, False),
    ],
)
def test_a_server_larger_than_its_flavor_is_refused(own, root_gb, refused):
    assert bool(snapshot.refusal(own, root_gb)) == refused


def test_the_limit_of_an_archive_leaves_room_for_its_headers():
    assert snapshot.archive_limit(0, 0) > 0
    more = snapshot.archive_limit(0, 1000) - snapshot.archive_limit(0, 0)
    assert more == 1000 * snapshot.PER_FILE


@pytest.mark.parametrize(
    ("before", "after", "used"),
    [(10, 4, 6), (4, 10, 0), (float("inf"), float("inf"), 0)],
)
def test_used_inodes_are_estimated(before, after, used):
    assert snapshot.consumed(before, after) == used


def test_an_archive_beyond_its_limit_is_broken_off(server):
    archive = CheckedArchive(io.BytesIO(bytes(100)), 60, server.space)
    assert len(archive.read(50)) == 50
    with pytest.raises(errors.EngineError, match="larger than its files"):
        archive.read(50)


def test_an_archive_is_broken_off_when_the_disk_fills(server, monkeypatch):
    archive = CheckedArchive(io.BytesIO(bytes(100)), 100, server.space)
    assert len(archive.read(50)) == 50
    monkeypatch.setattr(DiskSpace, "_free", lambda space: (-1, 10**9))
    with pytest.raises(NoSpace):
        archive.read(50)


def test_a_snapshot_is_taken_of_a_frozen_server_and_uploaded(server):
    during = []
    commit = server.client.commit_container

    def look(*arguments, **options):
        during.append(server.status)
        return commit(*arguments, **options)

    server.client.commit_container = look
    server.glance.during = lambda image_id: during.append(server.status)
    server.take()
    assert during == ["paused", "running"]
    assert server.glance.received


def test_space_is_reserved_for_the_commit_and_the_export(server):
    found = server.client.inspect_container(server.name, size=True)
    reserved = []

    def look(image_id):
        reserved.append(100 * units.Gi - server.space.available()[0])

    server.glance.during = look
    server.take()
    assert reserved == [found["SizeRw"] + found["SizeRootFs"]]
    assert server.space.available()[0] == 100 * units.Gi


def test_a_server_that_does_not_fit_the_disk_is_refused(server, monkeypatch):
    monkeypatch.setattr(DiskSpace, "_free", lambda space: (1000, 10**9))
    with pytest.raises(exception.ComputeResourcesUnavailable, match="snapshot"):
        server.take()
    assert server.status == "running"


@pytest.mark.parametrize("method", ["inspect_container", "commit_container"])
def test_a_server_that_is_deleted_meanwhile_counts_as_not_running(server, method):
    original = getattr(server.client, method)

    def delete_first(*arguments, **options):
        if server.client.list_containers():
            server.client.remove_container(server.name)
        return original(*arguments, **options)

    setattr(server.client, method, delete_first)
    with pytest.raises(exception.InstanceNotRunning):
        server.take()


@pytest.mark.parametrize("method", ["commit_container", "save_image"])
def test_a_failure_of_the_engine_leaves_nothing(server, method):
    server.client.fail_next(method, errors.for_status(500, "no space left on device"))
    with pytest.raises(exception.NovaException, match="no space left"):
        server.take()
    assert server.status == "running"
    server.take()


def test_an_image_that_cannot_be_removed_is_removed_later(server, caplog):
    server.client.fail_next("remove_image", errors.Unreachable("away"))
    image_id = server.take()
    assert server.tags == [f"nova-snapshot/{image_id}:latest"]
    assert "this is tried again" in caplog.text
    server.snapshots.recover()


def leave_tags(server, number):
    """Leave the images of interrupted snapshots on the engine."""
    for _ in range(number):
        server.client.tag_image("image", f"nova-snapshot/{samples.uuid()}", "latest")


def test_an_engine_that_cannot_remove_images_delays_a_recovery_once(
    server, monkeypatch
):
    leave_tags(server, 3)
    waits = []

    def wait(ref, *, timeout=None):
        waits.append(timeout)
        raise errors.Timeout("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(server.client, "remove_image", wait)
        server.snapshots.recover()
    assert waits == [snapshot._REMOVE_SECONDS]
    server.snapshots.recover()
    assert server.tags == []


def test_an_image_that_cannot_be_removed_does_not_keep_the_others(server):
    leave_tags(server, 3)
    server.client.fail_next("remove_image", errors.Conflict("in use"))
    server.snapshots.recover()
    assert len(server.tags) == 1
    server.snapshots.recover()


def test_a_snapshot_does_not_wait_while_a_recovery_removes_an_image(
    server, monkeypatch
):
    leave_tags(server, 1)
    [left] = server.tags
    remove = server.client.remove_image
    removed = []

    def wait(ref, *, timeout=None):
        removed.append(ref)
        if ref == left:
            taking = threading.Thread(target=server.take)
            taking.start()
            taking.join(10)
            assert server.glance.received
        remove(ref)

    monkeypatch.setattr(server.client, "remove_image", wait)
    server.snapshots.recover()
    # The snapshot has left that image to the recovery, and removed its own.
    assert removed.count(left) == 1
    assert len(removed) == 2


def test_a_snapshot_in_progress_is_left_alone(server):
    def recover(image_id):
        server.snapshots.recover()
        assert server.tags == [f"nova-snapshot/{image_id}:latest"]

    server.glance.during = recover
    server.take()
    assert server.glance.received


def test_an_engine_that_is_away_does_not_stop_the_recovery(server, caplog):
    server.client.fail_next("list_images", errors.Unreachable("away"))
    server.snapshots.recover()
    assert "Failed to look for interrupted snapshots" in caplog.text
