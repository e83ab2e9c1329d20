# SPDX-License-Identifier: Apache-2.0
"""Uploaded images that attack the engine's disk and nova-compute's processor."""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import threading
import time
from concurrent import futures

import pytest
from nova import exception

from tests import archives
from tests import samples
from tests.attacks import attack
from tests.functional.image_files import assert_back_to
from tests.functional.image_files import at_rest
from tests.functional.image_files import store_of
from tests.functional.image_files import tags

pytestmark = pytest.mark.usefixtures("images")

MIB = 2**20
# Seconds of processor time for the refusal of a small image, the engine's apart. It was
# six before there was a limit, and is a tenth.
REFUSAL = 2


@pytest.fixture
def store(engine, glance):
    return store_of(engine, glance)


def boot(store, image_meta, root_gb=1):
    flavor = samples.flavor(root_gb=root_gb)
    return store.ensure(samples.request_context(), image_meta, flavor)["Id"]


def header(name, kind=tarfile.REGTYPE, size=0):
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT)


def extended(body):
    return header("x", tarfile.XHDTYPE, len(body)) + body + bytes(-len(body) % 512)


def with_blob(layer, blob=None, times=1):
    """Return an archive whose image uses one layer several times."""
    blob = gzip.compress(layer) if blob is None else blob
    return archives.minimal([layer] * times, {"layer": blob}, ["layer"] * times)


def assert_refused(store, engine, image_meta, error, why=None, **options):
    before = at_rest(engine)
    with pytest.raises(error, match=why):
        boot(store, image_meta, **options)
    assert_back_to(engine, before)


@attack(
    "Image bomb by compression",
    tried="100 KB of gzip-compressed zeros that expand to 100 MB",
    held_by="layers may not expand to more than 16 times the archive plus 32 MiB; "
    "nothing is unpacked before the whole archive has been read",
)
def test_a_compressed_bomb_is_refused(store, engine, image):
    bomb = image(with_blob(archives.tar({"zeros": bytes(100 * MIB)})))
    assert_refused(
        store, engine, bomb, exception.ImageUnacceptable, "expand to more than 16 times"
    )


@attack(
    "Image bomb by number of files",
    tried="an image of 125 MB with 250,000 empty files, for a root disk of 1 GB",
    held_by="each entry counts as 4 KiB against the flavor's root disk, while the "
    "image streams",
)
def test_an_image_of_empty_files_must_fit_the_root_disk(store, engine, image):
    layer = header("a") * 250_000 + bytes(1024)
    bomb = image(with_blob(layer, layer))
    assert_refused(
        store,
        engine,
        bomb,
        exception.FlavorDiskSmallerThanImage,
        "Flavor disk is 1073741824 bytes, image is 1073",
    )


@attack(
    "Image bomb by repetition",
    tried="an image that lists one layer of 2 MiB a hundred times",
    held_by="the engine unpacks such a layer each time, so it counts each time",
)
def test_a_layer_counts_as_often_as_it_is_used(store, engine, image, monkeypatch):
    layer = archives.tar({"file": os.urandom(2 * MIB)})
    bomb = image(with_blob(layer, layer, times=100))
    assert_refused(
        store, engine, bomb, exception.ImageUnacceptable, "expand to more than 16 times"
    )
    # Fewer times, it is the root disk that counts.
    monkeypatch.setattr("nova_docker.image.store.units.Gi", 16 * MIB)
    bomb = image(with_blob(layer, layer, times=9))
    assert_refused(store, engine, bomb, exception.FlavorDiskSmallerThanImage)


@attack(
    "Image bomb by depth of names",
    tried="an entry whose name consists of 2,000 directories that the engine creates",
    held_by="directories that a name implies count as entries",
)
def test_directories_that_names_imply_count(store, engine, image, monkeypatch):
    monkeypatch.setattr("nova_docker.image.store.units.Gi", MIB)
    body = b"a/" * 2000
    deep = header("x", tarfile.GNUTYPE_LONGNAME, len(body)) + body
    layer = deep + bytes(-len(deep) % 512) + header("a") + bytes(1024)
    bomb = image(with_blob(layer, layer))
    assert_refused(store, engine, bomb, exception.FlavorDiskSmallerThanImage)


@attack(
    "Full disk of the host",
    tried="an image larger than the free space, for a flavor without a limit",
    held_by="the free space, less a reserve for the host, is compared with what the "
    "image takes while it streams; another host is tried",
)
def test_an_image_does_not_fill_the_disk(small_engine, glance, image):
    store = store_of(small_engine, glance)
    least = []

    def watch():
        while not done.wait(0.005):
            found = os.statvfs(small_engine.client.info()["DockerRootDir"])
            least.append(found.f_bavail * found.f_frsize)

    done = threading.Event()
    with futures.ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch)
        try:
            for root_gb in (0, 1):
                assert_refused(
                    store,
                    small_engine,
                    image(with_blob(large := _large(80), large)),
                    exception.CouldNotFetchImage,
                    "MiB of the engine's disk are free",
                    root_gb=root_gb,
                )
        finally:
            done.set()
        watching.result()
    assert min(least) > 2 * MIB
    assert boot(store, image())


@attack(
    "Full disk of the host by several images",
    tried="two boots at once, each of an image that fits the free space alone",
    held_by="loads in progress share one ledger of the free space",
)
def test_loads_at_the_same_time_do_not_fill_the_disk(
    small_engine, glance, image, monkeypatch
):
    store = store_of(small_engine, glance)
    layers = [_large(14, seed) for seed in (b"a", b"b")]
    metas = [image(with_blob(layer, layer)) for layer in layers]
    both = threading.Barrier(2)
    download = glance.download

    class Last:
        """Passes on the last bytes when both downloads have come so far."""

        def __init__(self, data):
            self.data = data
            self.rest = b""

        def write(self, chunk):
            self.data.write(self.rest)
            self.rest = chunk

    def together(context, image_id, data, trusted_certs=None):
        sink = Last(data)
        try:
            download(context, image_id, sink)
        except OSError:
            both.abort()
            raise
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(20)
        data.write(sink.rest)

    def outcome(image_meta):
        try:
            return boot(store, image_meta, root_gb=0)
        except exception.CouldNotFetchImage as error:
            return str(error)

    monkeypatch.setattr(glance, "download", together)
    with futures.ThreadPoolExecutor(2) as pool:
        outcomes = sorted(pool.map(outcome, metas))
    assert "MiB of the engine's disk are free" in outcomes[0]
    assert outcomes[1].startswith("sha256:")
    assert list(tags(small_engine).values()) == [outcomes[1]]


@pytest.mark.parametrize(
    ("blob", "why"),
    [
        (gzip.compress(header("a") * 120_000), "too many tar headers"),
        (gzip.compress(header("a", b"g") * 120_000), "too many tar headers"),
        (gzip.compress(extended(b"6 a=b\n" * 170_000) * 60), "too many tar headers"),
        (gzip.compress(b"") * 50_000, "too many tar headers or gzip members"),
        (gzip.compress(bytes(60 * MIB)), "expand to more than 16 times"),
    ],
    ids=["headers", "global headers", "PAX records", "gzip members", "zeros"],
)
@attack(
    "Processor time by tar and gzip headers",
    tried="100 KB that expand to 10 million PAX records, or 120,000 tar headers, or "
    "hold 50,000 gzip members; booted again and again",
    held_by="the number of headers, records and members is bounded by the bytes "
    "received, and nova-compute remembers for an hour which images it refused",
)
def test_headers_cost_little_time(store, engine, glance, image, blob, why):
    hostile = image(with_blob(b"", blob))
    before = at_rest(engine)
    started = time.process_time()
    for _ in range(5):
        with pytest.raises(exception.ImageUnacceptable, match=why):
            boot(store, hostile)
    assert time.process_time() - started < REFUSAL
    assert glance.downloads == [hostile.id]
    assert_back_to(engine, before)


@pytest.mark.parametrize("name", ["manifest.json", "config.json"])
@attack(
    "Processor time and memory by JSON",
    tried="a manifest or configuration of 1 MB with 340,000 objects",
    held_by="the number of objects is bounded",
)
def test_json_costs_little_time(store, engine, image, name):
    parts = archives.members(with_blob(b"", bytes(1024)))
    objects = b"[" + b"{}," * 340_000 + b"{}]"
    is_config = name == "config.json"
    parts[name] = b'{"rootfs": ' + objects + b"}" if is_config else objects
    started = time.process_time()
    assert_refused(
        store,
        engine,
        image(archives.tar(parts)),
        exception.ImageUnacceptable,
        "is not valid JSON",
    )
    assert time.process_time() - started < REFUSAL


@attack(
    "Refused image left on the engine",
    tried="an image that the engine loads, and that turns out not to fit the flavor",
    held_by="what a refused boot has fetched is removed; an image that was there "
    "before, or that a server with a larger flavor has fetched, stays",
)
def test_an_image_that_is_refused_after_the_load_leaves_nothing(
    store, engine, image, monkeypatch
):
    small = image(files={"file": os.urandom(MIB)})
    inspect = engine.client.inspect_image
    monkeypatch.setattr(
        engine.client, "inspect_image", lambda ref: inspect(ref) | {"Size": 2**30 + 1}
    )
    assert_refused(store, engine, small, exception.FlavorDiskSmallerThanImage)
    image_id = boot(store, small, root_gb=2)
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        boot(store, small, root_gb=1)
    assert image_id in tags(engine).values()


def _large(mib, seed=b"x"):
    """Return a layer with a file of so many MiB."""
    return archives.tar({"file": seed * (mib * MIB)})
