# SPDX-License-Identifier: Apache-2.0
"""Loading of Glance images into a real engine, and what a failed load leaves."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from concurrent import futures

import pytest
from nova import exception

from docker_engine import errors
from nova_docker.image.store import ImageStore
from nova_docker.storage.space import DiskSpace
from tests import archives
from tests import samples
from tests.functional.image_files import assert_back_to
from tests.functional.image_files import at_rest
from tests.functional.image_files import store_of
from tests.functional.image_files import tags

pytestmark = pytest.mark.usefixtures("images")

INNOCENT = "innocent:latest"


@pytest.fixture
def store(engine, glance):
    return store_of(engine, glance)


def ensure(store, image_meta, **values):
    return store.ensure(samples.request_context(), image_meta, **values)["Id"]


def tag_of(image_meta):
    return f"nova-glance/{image_meta.id}:latest"


def digest(layer):
    return f"sha256:{hashlib.sha256(layer).hexdigest()}"


def archive_of(layers, blobs):
    """Return a minimal archive; ``blobs`` are the layers as stored."""
    rootfs = {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}
    config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs}
    names = [f"layer-{number}" for number in range(len(blobs))]
    manifest = [{"Config": "config.json", "Layers": names}]
    return archives.tar(
        {
            "config.json": json.dumps(config).encode(),
            "manifest.json": json.dumps(manifest).encode(),
            **dict(zip(names, blobs, strict=True)),
        }
    )


def members(archive):
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def rebuilt(archive, changed):
    """Return an archive with some members replaced, or removed by None."""
    changed = members(archive) | changed
    return archives.tar({k: v for k, v in changed.items() if v is not None})


@pytest.mark.parametrize("oci", [False, True])
def test_the_image_has_the_uploaded_configuration_and_runs(store, engine, image, oci):
    image_meta = image(config={"Cmd": ["sleep", "9"], "User": "7"}, oci=oci)
    image_id = ensure(store, image_meta)
    found = engine.client.inspect_image(tag_of(image_meta))
    assert found["Id"] == image_id
    assert found["Config"]["Cmd"] == ["sleep", "9"] and found["Config"]["User"] == "7"
    container = engine.client.create_container("nova-image-test", {"Image": image_id})
    engine.client.remove_container(container)


def test_an_archive_saved_by_the_engine_can_be_loaded(store, engine, image, glance):
    twice = archives.tar({"etc/motd": b"twice"})
    layers = [archives.busybox_layer(), twice, archives.tar({"x": b""}), twice]
    first = image(archive_of(layers, layers))
    image_id = ensure(store, first)
    saved = subprocess.run(
        ["docker", "--host", engine.host, "save", tag_of(first)],
        check=True,
        capture_output=True,
    ).stdout
    engine.client.remove_image(tag_of(first))
    second = image(saved)
    assert ensure(store, second) == image_id
    assert tag_of(first) not in tags(engine)


def test_layers_compressed_with_gzip_can_be_loaded(store, engine, image):
    layer = archives.busybox_layer()
    image_meta = image(archive_of([layer], [gzip.compress(layer)]))
    ensure(store, image_meta)
    found = engine.client.inspect_image(tag_of(image_meta))
    assert found["RootFS"]["Layers"] == [digest(layer)]


@pytest.mark.parametrize("oci", [False, True])
def test_no_name_of_an_archive_becomes_a_tag(store, engine, image, oci):
    other, unborn = image(config={"Cmd": ["other"]}), image(config={"Cmd": ["own"]})
    ensure(store, other)
    engine.client.tag_image(tag_of(other), *INNOCENT.split(":"))
    before = tags(engine)

    claimed = [INNOCENT, tag_of(other), tag_of(unborn), "new:1"]
    archive = archives.busybox_archive(config={"Cmd": ["evil"]}, tags=claimed, oci=oci)
    hostile = image(archive)
    evil = ensure(store, hostile)
    assert tags(engine) == before | {tag_of(hostile): evil}
    # The image whose tag was claimed before it was loaded still comes from Glance.
    assert ensure(store, unborn) != evil

    # Without the check, the engine would have set the tags.
    engine.client.load_image([archive])
    assert {tags(engine)[tag] for tag in claimed} == {evil}


def test_a_layer_must_be_uploaded_even_if_the_engine_has_it(store, engine, image):
    """Knowing the digests of a tenant's image must not give access to its content."""
    secret = archives.tar({"secret": b"of another tenant"})
    victim = image(archives.archive([secret]))
    ensure(store, victim)
    stolen = archives.archive([secret], config={"Cmd": ["thief"]}, tags=["stolen:1"])
    layer = next(n for n, c in members(stolen).items() if c == secret)
    stolen = rebuilt(stolen, {layer: archives.tar({"nothing": b""})})
    with pytest.raises(exception.ImageUnacceptable, match="layer digests do not match"):
        ensure(store, image(stolen))

    # Without the check, the engine would have used the other tenant's layer.
    engine.client.load_image([stolen])
    found = engine.client.inspect_image("stolen:1")["RootFS"]["Layers"]
    assert found == [digest(secret)]


GOOD = archives.busybox_archive(files={"file": b"x" * 100_000})


@pytest.mark.parametrize(
    ("archive", "why"),
    [
        (b"", "empty archive"),
        (b"QFI\xfb" + bytes(10**6), "qcow2"),
        (gzip.compress(GOOD), "compressed with gzip"),
        (GOOD[: len(GOOD) // 2], "truncated"),
        (GOOD + b"more", "data after the end-of-archive marker"),
        (rebuilt(GOOD, {"manifest.json": None}), "no manifest.json"),
        (
            archives.archive([archives.tar({"a": b"", "a/b": b""})]),
            "the Docker engine cannot unpack it: .*: not a directory",
        ),
        (
            archives.archive([archives.tar({f"{n}": b""}) for n in range(130)]),
            "image has more than 125 layers",
        ),
        (archives.busybox_archive(architecture="riscv64"), "for 'riscv64' machines"),
    ],
)
def test_a_refused_archive_leaves_nothing(store, engine, image, archive, why):
    before = at_rest(engine)
    with pytest.raises(exception.ImageUnacceptable, match=why):
        ensure(store, image(archive))
    assert_back_to(engine, before)


@pytest.mark.parametrize("share", [0, 0.5, 1])
def test_a_failed_download_leaves_nothing(
    store, engine, image, glance, monkeypatch, share
):
    """This includes a failure at the last byte, where the hash is checked."""
    before = at_rest(engine)

    def download(context, image_id, data, trusted_certs=None):
        archive = glance.archives[image_id]
        data.write(archive[: int(len(archive) * share)])
        raise BrokenPipeError("Corrupt image download")

    image_meta = image()
    with monkeypatch.context() as patch:
        patch.setattr(glance, "download", download)
        with pytest.raises(exception.CouldNotFetchImage, match="Corrupt image"):
            ensure(store, image_meta)
    assert_back_to(engine, before)
    assert ensure(store, image_meta)


def test_several_boots_at_once_load_an_image_once(store, engine, image, glance):
    image_meta = image(files={"file": b"x" * 10_000_000})
    with futures.ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: ensure(store, image_meta), range(8)))
    assert ids == {tags(engine)[tag_of(image_meta)]}
    assert glance.downloads == [image_meta.id]


@pytest.mark.parametrize("known", [True, False])
def test_a_full_disk_is_an_error_of_the_host(small_engine, glance, image, known):
    """Usually the image is refused before; somebody else may fill the disk, though."""
    if known:
        store = store_of(small_engine, glance)
    else:
        store = ImageStore(small_engine.client, glance, DiskSpace(lambda: "/"))
    before = at_rest(small_engine)
    large = image(archives.archive([archives.tar({"file": bytes(64 * 2**20)})]))
    why = "MiB of the engine's disk are free" if known else "no space left"
    with pytest.raises(exception.CouldNotFetchImage, match=why):
        ensure(store, large)
    assert_back_to(small_engine, before)
    assert ensure(store, image())


def test_an_engine_that_stops_is_an_error_of_the_host(
    small_engine, glance, image, monkeypatch
):
    store = store_of(small_engine, glance)
    image_meta = image(files={"file": bytes(2**20)})
    archive = glance.archives[image_meta.id]

    def download(context, image_id, data, trusted_certs=None):
        data.write(archive[:65536])
        small_engine.stop()
        for start in range(65536, len(archive), 65536):
            data.write(archive[start : start + 65536])

    with monkeypatch.context() as patch:
        patch.setattr(glance, "download", download)
        with pytest.raises(exception.CouldNotFetchImage, match="Docker engine"):
            ensure(store, image_meta)
    with pytest.raises(errors.Unreachable):
        small_engine.client.ping()
    small_engine.start()
    assert tags(small_engine) == {}
    assert ensure(store, image_meta)
