# SPDX-License-Identifier: Apache-2.0
"""Snapshots that would fill the host's disk, on an engine with a small disk."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import tempfile
import threading
import time

import pytest
from nova import conf as nova_conf
from nova import exception

from docker_engine import errors
from nova_docker import frozen
from nova_docker.container import naming
from nova_docker.image.snapshot import Snapshots
from nova_docker.nics import Nics
from nova_docker.power import Power
from nova_docker.storage.space import DiskSpace
from tests import archives
from tests import samples
from tests.attacks import attack
from tests.engine import Engine
from tests.functional.host import Glance
from tests.functional.host import Server
from tests.functional.host import eventually

CONF = nova_conf.CONF
MiB = 2**20
DISK = 1024 * MiB
# What a refused snapshot may need for a moment
NOTHING = 50 * MiB


class Disk:
    """The file system of an engine's data."""

    def __init__(self, path):
        self.path = path

    @property
    def used(self):
        found = os.statvfs(self.path)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    @property
    def free(self):
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def watched(self):
        """Yield a list; its only element is the growth of the disk's use in bytes."""
        before, done, growth = self.used, threading.Event(), [0]

        def watch():
            while not done.wait(0.005):
                growth[0] = max(growth[0], self.used - before)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield growth
        finally:
            done.set()
            thread.join()


@pytest.fixture(scope="module")
def disk():
    """A file system of 1 GiB in a file, with the engine's data."""
    with tempfile.TemporaryDirectory(prefix="nd-", dir="/tmp") as path:
        os.chmod(path, 0o711)
        file, mounted = pathlib.Path(path, "disk"), pathlib.Path(path, "e")
        with file.open("wb") as content:
            content.truncate(DISK)
        subprocess.run(["mkfs.ext4", "-q", "-N", "16384", file], check=True)
        mounted.mkdir()
        subprocess.run(["mount", "-o", "loop", file, mounted], check=True)
        try:
            yield Disk(mounted)
        finally:
            subprocess.run(["umount", mounted], check=True)


@pytest.fixture(scope="module")
def engine(disk):
    directory = disk.path / "d"
    directory.mkdir(mode=0o711)
    engine = Engine(directory)
    try:
        engine.start()
        engine.client.load_image([archives.busybox_archive(tags=["image:latest"])])
        yield engine
    finally:
        engine.destroy()


@pytest.fixture
def glance():
    return Glance()


@pytest.fixture
def snapshots(engine, disk, glance, tmp_path):
    CONF.set_override("state_path", str(tmp_path))
    yield Snapshots(
        engine.client,
        glance,
        Power(engine.client, Nics(None), lambda *args: {}),
        DiskSpace(lambda: str(disk.path)),
    )
    CONF.clear_override("state_path")


@pytest.fixture
def boot(engine):
    servers = []

    def run(script, **flavor):
        instance = samples.instance(flavor=samples.flavor(**flavor))
        server = Server(instance, samples.nics(), engine)
        engine.client.create_container(
            server.name,
            {
                "Image": "image:latest",
                "Cmd": ["sh", "-c", f"{script}; echo ready > /ready; sleep 1000"],
                "Labels": naming.labels(instance),
                "HostConfig": {"NetworkMode": "none"},
            },
        )
        servers.append(server)
        engine.client.start_container(server.name)
        return server

    yield run
    for server in servers:
        with contextlib.suppress(errors.ContainerNotFound):
            engine.client.remove_container(server.name)


@pytest.fixture(autouse=True)
def nothing_is_left(disk, engine):
    before = disk.used
    yield
    assert snapshot_images(engine) == []
    assert frozen.marked() == []
    assert not list((disk.path / "d/data/tmp").iterdir())
    assert eventually(lambda: disk.used < before + 5 * MiB)


def snapshot_images(engine):
    return engine.client.list_images({"reference": ["nova-snapshot/*"]})


def take(snapshots, server):
    image_id = samples.uuid()
    snapshots.take(None, server.instance, image_id, lambda **states: None)
    return image_id


def ready(server):
    assert eventually(lambda: server.run("cat /ready || true") == "ready\n")
    return server


def runs(server):
    return server.inspect()["State"]["Status"] == "running"


@attack(
    "The host's disk, through a sparse file",
    tried="A server with a root disk of 1 GB creates a file of 6 GB that consists of a "
    "hole, and its user takes a snapshot.",
    held_by="The frozen server is measured with its holes before the engine commits "
    "it, and refused if it is larger than its flavor's disk.",
)
def test_a_sparse_file_larger_than_the_flavor(snapshots, boot, disk):
    server = ready(boot("truncate -s 6G /big"))
    with (
        disk.watched() as growth,
        pytest.raises(exception.ImageUnacceptable, match=r"6144 MiB.*holes.*1 GiB"),
    ):
        take(snapshots, server)
    assert growth[0] < NOTHING
    assert runs(server)


@attack(
    "The host's disk, with a large flavor",
    tried="A server whose flavor allows it creates a sparse file that is larger than "
    "half of the free space, and its user takes a snapshot.",
    held_by="The space for the commit and for the engine's copy of all layers is "
    "reserved before, and the host keeps a share.",
)
@pytest.mark.parametrize("root_gb", [0, 10])
def test_a_snapshot_that_does_not_fit_the_disk(snapshots, boot, disk, root_gb):
    server = ready(boot(f"truncate -s {disk.free // 2} /big", root_gb=root_gb))
    with (
        disk.watched() as growth,
        pytest.raises(exception.ComputeResourcesUnavailable, match="MiB of the engine"),
    ):
        take(snapshots, server)
    assert growth[0] < NOTHING
    assert runs(server)


@attack(
    "The host's disk, with many snapshots at a time",
    tried="Two servers whose files each fit the disk are snapshotted together.",
    held_by="Snapshots take their shares of the free space from one ledger.",
)
def test_snapshots_share_the_free_space(snapshots, boot, disk, glance, monkeypatch):
    # Each needs it twice: for the commit, and for the engine's copy.
    script = f"truncate -s {disk.free * 3 // 10} /big"
    first, second = ready(boot(script)), ready(boot(script))
    refused = []

    def upload(context, image_id, image_info, data, purge_props):
        with pytest.raises(exception.ComputeResourcesUnavailable):
            take(snapshots, second)
        refused.append(second)
        while data.read(MiB):
            pass

    monkeypatch.setattr(glance, "update", upload)
    take(snapshots, first)
    assert refused == [second]
    assert runs(first) and runs(second)


@attack(
    "The host's disk, in the moment between look and commit",
    tried="A server creates a sparse file of 6 GB as soon as its files have been "
    "measured.",
    held_by="It is frozen before it is measured, until it is committed.",
)
def test_a_server_that_grows_after_it_was_measured(
    snapshots, boot, disk, engine, monkeypatch
):
    script = "(until [ -e /measured ]; do sleep 0.01; done; truncate -s 6G /big) &"
    server = ready(boot(script + " :"))
    inspect = engine.client.inspect_container

    def measure(ref, **options):
        found = inspect(ref, **options)
        if options.get("size"):
            # The server needs not be told: it could try often enough.
            engine.client.put_archive(ref, "/", archives.tar({"measured": b""}))
            time.sleep(0.5)
        return found

    with monkeypatch.context() as patch, disk.watched() as growth:
        patch.setattr(engine.client, "inspect_container", measure)
        take(snapshots, server)
    assert growth[0] < NOTHING
    # It does so when it runs again.
    assert eventually(lambda: "big" in server.run("ls /"))


@attack(
    "The host's inodes, through many empty files",
    tried="A server creates so many empty files, which have no size, that the host has "
    "too few inodes left when they are committed.",
    held_by="What a commit has used up is measured, and its headers are counted in the "
    "archive; the image is removed before it is exported.",
)
def test_many_empty_files(snapshots, boot, disk, glance):
    found = os.statvfs(disk.path)
    # Twice this leaves less than the share of the inodes that the host keeps.
    number = found.f_favail // 2 - found.f_files // 80
    server = ready(
        boot(
            f"mkdir /d; i=0; while [ $i -lt {number} ]; do : > /d/$i; i=$((i+1)); done"
        )
    )
    with (
        disk.watched() as growth,
        pytest.raises(exception.ComputeResourcesUnavailable, match="inodes of the"),
    ):
        take(snapshots, server)
    assert growth[0] < NOTHING
    assert glance.uploads == {}
    assert runs(server)


@attack(
    "The host's disk, while a snapshot is uploaded",
    tried="Something else fills the host's disk during the upload.",
    held_by="The upload is broken off, and the engine's copies are removed.",
)
def test_a_disk_that_fills_during_the_upload(
    snapshots, boot, disk, glance, monkeypatch
):
    server = ready(boot(f"truncate -s {100 * MiB} /big"))
    filler = disk.path / "filler"

    def upload(context, image_id, image_info, data, purge_props):
        assert data.read(MiB)
        subprocess.run(
            ["fallocate", "-l", str(disk.free - 20 * MiB), filler], check=True
        )
        while data.read(MiB):
            pass

    monkeypatch.setattr(glance, "update", upload)
    try:
        with pytest.raises(exception.ComputeResourcesUnavailable, match="has filled"):
            take(snapshots, server)
    finally:
        filler.unlink()
    assert eventually(lambda: not list((disk.path / "d/data/tmp").iterdir()))
    assert runs(server)


@attack(
    "Images that snapshots leave on the host",
    tried="The connection to the engine is lost during a commit, which the engine "
    "completes later.",
    held_by="The image is removed before the next snapshot and by Nova's periodic "
    "task; snapshots in progress are left alone.",
)
def test_an_abandoned_commit_is_removed_later(
    snapshots, boot, engine, disk, glance, monkeypatch
):
    server = ready(boot(f"truncate -s {200 * MiB} /big"))
    with monkeypatch.context() as patch:
        patch.setattr("docker_engine.api.containers.LONG_TIMEOUT", 0.1)
        with pytest.raises(exception.NovaException, match="did not answer in time"):
            take(snapshots, server)
    assert runs(server)
    assert eventually(lambda: snapshot_images(engine))

    def upload(context, image_id, image_info, data, purge_props):
        [image] = snapshot_images(engine)
        assert image["RepoTags"] == [f"nova-snapshot/{image_id}:latest"]
        snapshots.recover()
        assert snapshot_images(engine) == [image]
        while data.read(MiB):
            pass

    monkeypatch.setattr(glance, "update", upload)
    take(snapshots, server)


@attack(
    "A snapshot of a server that is being deleted",
    tried="A server is deleted when its snapshot has been measured.",
    held_by="Nova is told that the server has gone, and deletes the image.",
)
def test_a_server_that_is_deleted_meanwhile(snapshots, boot, engine, monkeypatch):
    server = ready(boot(":"))
    commit = engine.client.commit_container

    def delete_first(*arguments, **options):
        engine.client.remove_container(server.name)
        return commit(*arguments, **options)

    monkeypatch.setattr(engine.client, "commit_container", delete_first)
    with pytest.raises(exception.InstanceNotRunning):
        take(snapshots, server)
