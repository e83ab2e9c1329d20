# SPDX-License-Identifier: Apache-2.0
"""Fetching of images from Glance, here a small HTTP server, into the mock engine.

Nova's image API and python-glanceclient are the real ones: they check hashes, and fail
in their own ways.
"""

from __future__ import annotations

import hashlib
import http.server
import itertools
import json
import threading
import time
import types
from collections.abc import Iterable
from concurrent import futures
from typing import Any

import cryptography.exceptions
import pytest
from nova import conf as nova_conf
from nova import exception
from nova import objects
from nova.image import glance

from docker_engine import errors
from docker_engine.location import EngineImage
from docker_engine.location import RegistryImage
from docker_engine.mock.client import MockDockerClient
from nova_docker import conf
from nova_docker.image.locations import ImageLocations
from nova_docker.image.store import ImageStore
from nova_docker.storage.space import DiskSpace
from tests import archives
from tests import samples

CONF = nova_conf.CONF
conf.register_opts(CONF)

IMAGE_ID = "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd"
TAG = f"nova-glance/{IMAGE_ID}:latest"
LAYER = archives.tar({"etc/motd": b"hello\n" * 1000})
ARCHIVE = archives.archive([LAYER], tags=["debian:latest"])
SPACE = DiskSpace(lambda: "/")
OCI_ARCHIVE = archives.archive([LAYER], tags=["debian:latest"], oci=True)


class Engine(MockDockerClient):
    """An engine that counts inspections, and can abort a load."""

    def __init__(self) -> None:
        super().__init__()
        self.inspected = 0
        self.breaks: tuple[int | None, Exception] | None = None

    def inspect_image(self, ref: str) -> dict[str, Any]:
        self.inspected += 1
        return super().inspect_image(ref)

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        if self.breaks:
            count, error = self.breaks
            list(itertools.islice(chunks, count))
            raise error
        return super().load_image(chunks)

    @property
    def tags(self) -> list[str]:
        return [tag for image in self.list_images() for tag in image["RepoTags"]]


class Glance(http.server.ThreadingHTTPServer):
    """A Glance with one image: ``metadata`` and ``data``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GlanceHandler)
        self.downloads = 0
        self.status = 200
        self.length: int | None = None
        self.pause = 0.0
        self.upload(ARCHIVE)

    def upload(self, data: bytes, **metadata: Any) -> None:
        self.data = data
        self.metadata = {
            "id": IMAGE_ID,
            "status": "active",
            "checksum": hashlib.md5(data).hexdigest(),
            "os_hash_algo": "sha512",
            "os_hash_value": hashlib.sha512(data).hexdigest(),
        } | metadata


class GlanceHandler(http.server.BaseHTTPRequestHandler):
    server: Glance

    def do_GET(self) -> None:
        if not self.path.endswith("/file"):
            return self.answer(
                200, json.dumps(self.server.metadata).encode(), "application/json"
            )
        self.server.downloads += 1
        time.sleep(self.server.pause)
        return self.answer(
            self.server.status, self.server.data, "application/octet-stream"
        )

    def answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if status != 204:
            length = self.server.length if kind.endswith("stream") else None
            self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        if status != 204:
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Log nothing: pytest shows what Nova logs."""


@pytest.fixture
def server(monkeypatch):
    with Glance() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        CONF.set_override(
            "api_servers", [f"http://127.0.0.1:{server.server_port}"], "glance"
        )
        CONF.set_override("num_retries", 0, "glance")
        yield server
        CONF.clear_override("api_servers", "glance")
        CONF.clear_override("num_retries", "glance")
        server.shutdown()
        thread.join()


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def store(server, engine):
    yield ImageStore(engine, glance.API(), SPACE)
    # Downloads that are no longer needed must end.
    for thread in threading.enumerate():
        if thread.name == "docker-image":
            thread.join(5)
            assert not thread.is_alive()


def ensure(store: ImageStore, *args: Any, **image: Any) -> str:
    context = samples.request_context()
    context.auth_token = "token"
    found: str = store.ensure(context, samples.image_meta(**image), *args)["Id"]
    return found


class TestCheck:
    def check(self, root_gb: int = 1, **image: Any) -> None:
        ImageStore.check(samples.image_meta(**image), samples.flavor(root_gb=root_gb))

    @pytest.mark.parametrize(
        ("container_format", "disk_format"),
        [("bare", "raw"), ("docker", "qcow2"), ("bare", "qcow2"), ("ova", "vmdk")],
    )
    def test_other_formats_are_refused(self, container_format, disk_format):
        with pytest.raises(exception.ImageUnacceptable) as caught:
            self.check(container_format=container_format, disk_format=disk_format)
        assert str(caught.value) == (
            f"Image {IMAGE_ID} is unacceptable: container_format must be docker and "
            f"disk_format raw, but they are {container_format} and {disk_format}"
        )

    def test_a_server_without_an_image_is_refused(self):
        """The image of a server that boots from a volume lacks most fields."""
        meta = samples.objects.ImageMeta.from_dict({})
        with pytest.raises(exception.ImageUnacceptable):
            ImageStore.check(meta, samples.flavor())

    @pytest.mark.filterwarnings("ignore:.*is an invalid UUID:FutureWarning")
    @pytest.mark.parametrize("image_id", [IMAGE_ID.upper(), "debian", "../x", ""])
    def test_an_id_that_has_no_tag_of_its_own_is_refused(self, image_id):
        with pytest.raises(exception.ImageUnacceptable, match="not a lower-case UUID"):
            self.check(id=image_id)

    def test_an_image_must_fit_the_root_disk(self):
        self.check()
        self.check(size=None)
        self.check(size=0)
        self.check(size=1024**3)
        self.check(root_gb=0, size=10 * 1024**3)
        with pytest.raises(exception.FlavorDiskSmallerThanImage, match="1073741825"):
            self.check(size=1024**3 + 1)

    def test_an_image_may_have_any_size_without_a_flavor(self):
        ImageStore.check(samples.image_meta(size=1024**4))


class TestEnsure:
    @pytest.mark.parametrize("data", [ARCHIVE, OCI_ARCHIVE])
    def test_an_image_is_loaded_under_its_own_tag_only(
        self, store, server, engine, data
    ):
        server.upload(data)
        assert ensure(store) == engine.inspect_image(TAG)["Id"]
        assert engine.tags == [TAG]

    def test_a_second_boot_downloads_nothing(self, store, server, engine):
        first = ensure(store)
        engine.inspected = 0
        assert ensure(store) == first
        assert engine.inspected == 1
        assert server.downloads == 1

    def test_several_boots_at_once_load_an_image_once(self, store, server, engine):
        server.pause = 0.2
        with futures.ThreadPoolExecutor(8) as pool:
            ids = list(pool.map(lambda _: ensure(store), range(8)))
        assert ids == [engine.inspect_image(TAG)["Id"]] * 8
        assert server.downloads == 1

    def test_a_download_does_not_delay_other_images(self, store, server, engine):
        other = "0" * 8 + IMAGE_ID[8:]
        ensure(store)
        engine.tag_image(TAG, f"nova-glance/{other}", "latest")
        engine.remove_image(TAG)
        server.downloads = 0
        server.pause = 1.0
        with futures.ThreadPoolExecutor(1) as pool:
            loading = pool.submit(ensure, store)
            while not server.downloads:
                time.sleep(0.01)
            found = ensure(store, id=other)
            assert not loading.done()
            assert loading.result() == found

    def test_an_image_is_loaded_again_after_its_removal(self, store, server, engine):
        first = ensure(store)
        engine.remove_image(TAG)
        assert ensure(store) == first
        assert server.downloads == 2

    def test_formats_are_checked_before_any_call(self, store, server, engine):
        with pytest.raises(exception.ImageUnacceptable, match="bare and qcow2"):
            ensure(store, container_format="bare", disk_format="qcow2")
        assert server.downloads == engine.inspected == 0

    def test_the_unpacked_image_must_fit_the_root_disk(
        self, store, server, engine, monkeypatch
    ):
        inspect = engine.inspect_image
        monkeypatch.setattr(
            engine, "inspect_image", lambda ref: inspect(ref) | {"Size": 1024**3 + 1}
        )
        for _ in range(2):
            with pytest.raises(exception.FlavorDiskSmallerThanImage):
                ensure(store, samples.flavor(root_gb=1))
            assert engine.list_images() == []
        assert server.downloads == 1
        assert ensure(store, samples.flavor(root_gb=2))
        assert ensure(store, samples.flavor(root_gb=0))
        assert server.downloads == 2

    def test_a_small_flavor_does_not_remove_the_image_of_a_large_one(
        self, store, engine, monkeypatch
    ):
        inspect = engine.inspect_image
        monkeypatch.setattr(
            engine, "inspect_image", lambda ref: inspect(ref) | {"Size": 1024**3 + 1}
        )
        ensure(store, samples.flavor(root_gb=2))
        with pytest.raises(exception.FlavorDiskSmallerThanImage):
            ensure(store, samples.flavor(root_gb=1))
        assert engine.tags == [TAG]

    def test_a_refused_image_that_was_there_before_stays(
        self, store, engine, monkeypatch
    ):
        engine.load_image([ARCHIVE])
        inspect = engine.inspect_image
        monkeypatch.setattr(
            engine, "inspect_image", lambda ref: inspect(ref) | {"Size": 1024**3 + 1}
        )
        with pytest.raises(exception.FlavorDiskSmallerThanImage):
            ensure(store, samples.flavor(root_gb=1))
        assert engine.tags == ["debian:latest"]

    def test_an_image_that_a_failed_boot_has_loaded_is_removed(
        self, store, engine, monkeypatch
    ):
        """The engine may have loaded it when the connection breaks."""
        load = engine.load_image

        def load_and_break(chunks: Iterable[bytes]) -> Any:
            load(chunks)
            raise errors.Unreachable("connection lost")

        monkeypatch.setattr(engine, "load_image", load_and_break)
        with pytest.raises(exception.CouldNotFetchImage, match="connection lost"):
            ensure(store)
        assert engine.list_images() == []

    def test_an_engine_that_cannot_remove_an_image_does_not_hide_the_reason(
        self, store, server, engine
    ):
        server.upload(b"")
        engine.fail_next("remove_image", errors.Unreachable("gone"))
        with pytest.raises(exception.ImageUnacceptable, match="empty archive"):
            ensure(store)


class TestSpace:
    """An image is refused while it streams, before the engine unpacks anything."""

    @pytest.fixture
    def bomb(self, server):
        """Four megabytes, of which Glance says nothing."""
        layer = archives.tar({"file": bytes(4 * 1024 * 1024)})
        server.upload(archives.archive([layer]))

    @pytest.fixture
    def disk(self, monkeypatch):
        """The engine's disk, with very little space."""
        found = types.SimpleNamespace(
            f_frsize=4096, f_blocks=1000, f_bavail=250, f_files=1000, f_favail=250
        )
        monkeypatch.setattr("os.statvfs", lambda path: found)
        return found

    @pytest.mark.usefixtures("bomb")
    def test_an_image_must_fit_the_root_disk(self, store, server, engine, monkeypatch):
        monkeypatch.setattr("nova_docker.image.store.units.Gi", 1024 * 1024)
        for _ in range(2):
            with pytest.raises(exception.FlavorDiskSmallerThanImage) as caught:
                ensure(store, samples.flavor(root_gb=3))
            assert "is 3145728 bytes" in str(caught.value)
            assert engine.list_images() == []
        # The second time, it is known.
        assert server.downloads == 1
        assert ensure(store, samples.flavor(root_gb=5))
        assert server.downloads == 2

    @pytest.mark.usefixtures("bomb")
    def test_a_full_disk_is_an_error_of_the_host(self, store, server, engine, disk):
        for _ in range(2):
            with pytest.raises(
                exception.CouldNotFetchImage, match="MiB of the engine's disk are free"
            ):
                ensure(store, samples.flavor(root_gb=0))
        # Another host is tried, and this one may have space later.
        assert engine.list_images() == []
        disk.f_bavail = 10_000
        assert ensure(store)
        assert server.downloads == 3

    def test_the_disk_must_have_inodes(self, store, server, disk):
        disk.f_bavail = 100_000
        server.upload(
            archives.archive([archives.tar({str(n): b"" for n in range(300)})])
        )
        with pytest.raises(exception.CouldNotFetchImage, match="200 inodes"):
            ensure(store)

    @pytest.mark.usefixtures("bomb")
    def test_loads_at_the_same_time_share_the_space(
        self, store, engine, disk, monkeypatch
    ):
        """The mock engine writes nothing: only the first load's promise counts."""
        disk.f_bavail = 1700
        other = "0" * 8 + IMAGE_ID[8:]
        load = engine.load_image

        def load_both(chunks: Iterable[bytes]) -> Any:
            data = list(chunks)
            monkeypatch.setattr(engine, "load_image", load)
            with pytest.raises(exception.CouldNotFetchImage, match="are free"):
                ensure(store, id=other)
            return load(data)

        monkeypatch.setattr(engine, "load_image", load_both)
        assert ensure(store)
        assert ensure(store, id=other)


class TestRefusals:
    def test_an_image_that_was_refused_is_not_downloaded_again(
        self, store, server, engine
    ):
        server.upload(b"")
        for _ in range(3):
            with pytest.raises(exception.ImageUnacceptable, match="empty archive"):
                ensure(store)
        assert server.downloads == 1

    def test_an_image_that_the_engine_refuses_is_not_loaded_again(
        self, store, server, engine
    ):
        engine.breaks = None, errors.EngineError("max depth exceeded", 200)
        for _ in range(2):
            with pytest.raises(exception.ImageUnacceptable, match="max depth"):
                ensure(store)
        assert server.downloads == 1

    def test_trouble_on_the_host_or_in_glance_is_not_remembered(
        self, store, server, engine
    ):
        server.status = 403
        with pytest.raises(exception.ImageNotAuthorized):
            ensure(store)
        server.status = 200
        engine.breaks = None, errors.EngineError("no space left on device", 500)
        with pytest.raises(exception.CouldNotFetchImage):
            ensure(store)
        engine.breaks = None
        assert ensure(store)


class TestGlanceFails:
    def fails(self, store, engine, kind, match: str | None = None) -> None:
        with pytest.raises(kind, match=match):
            ensure(store)
        assert engine.tags == []

    @pytest.mark.parametrize(
        "metadata",
        [
            {"os_hash_value": "0" * 128},
            {"os_hash_algo": "md5", "os_hash_value": "0" * 32},
            {"os_hash_algo": None, "os_hash_value": None, "checksum": "0" * 32},
        ],
    )
    def test_a_hash_mismatch_is_refused(self, store, server, engine, metadata):
        server.upload(ARCHIVE, **metadata)
        self.fails(store, engine, exception.CouldNotFetchImage, "Corrupt")

    def test_an_image_without_a_hash_is_accepted(self, store, server, engine):
        server.upload(ARCHIVE, os_hash_algo=None, os_hash_value=None, checksum=None)
        assert ensure(store)

    def test_a_lost_connection_is_reported(self, store, server, engine):
        server.upload(ARCHIVE[: len(ARCHIVE) // 2])
        server.length = len(ARCHIVE)
        self.fails(store, engine, exception.CouldNotFetchImage, "from Glance")

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (404, exception.ImageNotFound),
            (403, exception.ImageNotAuthorized),
            (204, exception.ImageUnacceptable),
        ],
    )
    def test_an_error_status_is_translated(self, store, server, engine, status, kind):
        server.status = status
        self.fails(store, engine, kind)

    def test_a_refused_connection_is_reported(self, store, server, engine):
        CONF.set_override("api_servers", ["http://127.0.0.1:1"], "glance")
        self.fails(store, engine, exception.GlanceConnectionFailed)

    def test_a_wrong_signature_is_refused(self, store, server, engine, monkeypatch):
        seen = []
        certificates = objects.TrustedCerts(ids=["one"])

        class Verifier:
            update = staticmethod(seen.append)

            def verify(self) -> None:
                raise cryptography.exceptions.InvalidSignature

        def verifier(_self: Any, _context: Any, image_id: str, trusted: Any) -> Any:
            assert (image_id, trusted) == (IMAGE_ID, certificates)
            return Verifier()

        monkeypatch.setattr(glance.GlanceImageServiceV2, "_get_verifier", verifier)
        with pytest.raises(
            exception.ImageUnacceptable, match="signature verification failed"
        ):
            ensure(store, None, certificates)
        assert engine.tags == []
        assert b"".join(seen) == server.data

        monkeypatch.setattr(Verifier, "verify", lambda self: None)
        assert ensure(store, None, certificates)

    def test_each_set_of_certificates_is_verified_once(
        self, store, server, monkeypatch
    ):
        asked = []
        monkeypatch.setattr(
            glance.GlanceImageServiceV2,
            "_get_verifier",
            lambda _self, _context, _id, trusted: asked.append(trusted),
        )
        one, other = (objects.TrustedCerts(ids=[name]) for name in ("one", "other"))
        for certificates in (None, one, one, None, other, one, other):
            ensure(store, None, certificates)
        assert asked == [None, one, other]


class TestRefusedArchives:
    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"QFI\xfb" + bytes(5000), "qcow2 disk image"),
            (b"", "empty archive"),
            (archives.tar({"a": b""}), "no manifest.json"),
            (archives.tar({"manifest.json": b"[]"}), "describes no image"),
        ],
    )
    def test_the_error_says_why(self, store, server, engine, data, why):
        server.upload(data)
        with pytest.raises(exception.ImageUnacceptable) as caught:
            ensure(store)
        assert str(caught.value).startswith(f"Image {IMAGE_ID} is unacceptable: ")
        assert why in str(caught.value)
        assert engine.tags == []

    def test_another_architecture_is_refused(self, store, engine, monkeypatch):
        monkeypatch.setattr(engine, "version", lambda: {"Arch": "arm64"})
        with pytest.raises(exception.ImageUnacceptable, match="this host is arm64"):
            ensure(store)
        assert engine.tags == []

    def test_the_rest_of_a_refused_archive_is_not_read(self, store, server):
        server.upload(b"not a tar" * 10_000_000)
        started = time.monotonic()
        with pytest.raises(exception.ImageUnacceptable, match="not a tar archive"):
            ensure(store)
        assert time.monotonic() - started < 2


class TestEngineFails:
    @pytest.mark.parametrize(
        "error",
        [
            errors.Unreachable("no connection"),
            errors.Timeout("no answer"),
            errors.EngineError("write /x: no space left on device", 500),
            errors.EngineError(
                "Error processing tar file(exit status 1): write /bin/sh: "
                "no space left on device",
                200,
            ),
        ],
    )
    @pytest.mark.parametrize("takes", [0, 3, None])
    def test_trouble_on_the_host_is_not_blamed_on_the_image(
        self, store, engine, error, takes
    ):
        """Nova then tries another host."""
        engine.breaks = takes, error
        with pytest.raises(exception.CouldNotFetchImage, match=IMAGE_ID) as caught:
            ensure(store)
        assert error.message in str(caught.value)

    @pytest.mark.parametrize(
        "message",
        [
            "Error processing tar file(exit status 1): unhandled tar header type 122",
            "openat a/b: not a directory",
            'invalid hardlink target "../../etc/passwd"',
            "max depth exceeded",
        ],
    )
    def test_a_layer_that_cannot_be_unpacked_makes_the_image_unacceptable(
        self, store, engine, message
    ):
        engine.breaks = None, errors.EngineError(message, 200)
        with pytest.raises(exception.ImageUnacceptable) as caught:
            ensure(store)
        assert str(caught.value).endswith(
            f"the Docker engine cannot unpack it: {message}"
        )

    @pytest.mark.parametrize(
        ("why", "kind"),
        [
            ("mkparent /x/a: not a directory", exception.ImageUnacceptable),
            ("write /x/a: no space left on device", exception.CouldNotFetchImage),
        ],
    )
    def test_a_failure_that_is_only_a_message_is_noticed(
        self, store, engine, monkeypatch, why, kind
    ):
        message = f"Error unpacking image {TAG}: failed to extract layer: {why}"
        load = engine.load_image

        def load_without_unpacking(chunks: Iterable[bytes]) -> Any:
            return [*load(chunks), {"stream": message + "\n"}]

        monkeypatch.setattr(engine, "load_image", load_without_unpacking)
        with pytest.raises(kind) as caught:
            ensure(store)
        assert str(caught.value).endswith(message)
        assert engine.tags == []

    def test_an_unreachable_engine_is_an_error_of_the_host(self, store, engine, server):
        engine.fail_next("inspect_image", errors.Unreachable("no connection"))
        with pytest.raises(exception.CouldNotFetchImage, match="no connection"):
            ensure(store)
        assert server.downloads == 0

    def test_an_image_with_other_layers_than_downloaded_is_removed(
        self, store, engine, monkeypatch
    ):
        load = engine.load_image

        def load_another(chunks: Iterable[bytes]) -> Any:
            list(chunks)
            other = archives.tar({"other": b""})
            return load([archives.archive([other], tags=[TAG])])

        monkeypatch.setattr(engine, "load_image", load_another)
        with pytest.raises(
            exception.CouldNotFetchImage, match="loaded different layers"
        ):
            ensure(store)
        assert engine.tags == []


class Locations(ImageLocations):
    """Locations of images, without a Glance."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[EngineImage | RegistryImage] = []
        self.asked: list[str] = []

    def of(self, image_id: str) -> list[EngineImage | RegistryImage]:
        self.asked.append(image_id)
        return self.places


DIGEST = "sha256:" + hashlib.sha256(b"a manifest").hexdigest()
REPOSITORY = "registry.test:5000/team/app"
REFERENCE = f"{REPOSITORY}@{DIGEST}"


class TestLocations:
    @pytest.fixture
    def locations(self):
        return Locations()

    @pytest.fixture
    def store(self, server, engine, locations):
        return ImageStore(engine, glance.API(), SPACE, locations)

    @pytest.fixture(autouse=True)
    def size(self, monkeypatch):
        """The size that the registry says, in bytes; by default, it is not reached."""
        size: list[int | None] = [None]
        monkeypatch.setattr(
            "nova_docker.image.pull.compressed_size", lambda *args: size[0]
        )
        return size

    @pytest.fixture
    def listed(self, engine, locations):
        """An image of the engine, to which a location refers."""
        engine.load_image([ARCHIVE])
        image_id: str = engine.inspect_image("debian:latest")["Id"]
        locations.places = [EngineImage("local", "debian:latest", image_id, 5)]
        return image_id

    @pytest.fixture
    def pulled(self, engine, locations):
        """An image of a registry, to which a location refers."""
        engine.registry[REFERENCE] = ARCHIVE
        locations.places = [RegistryImage("registry.test:5000", "team/app", DIGEST)]

    def test_an_image_of_the_engine_is_tagged_without_a_download(
        self, store, server, engine, listed
    ):
        assert ensure(store) == listed
        assert set(engine.tags) == {"debian:latest", TAG}
        assert server.downloads == 0

    def test_an_image_of_the_engine_is_identified_by_id_not_by_name(
        self, store, server, engine, listed
    ):
        other = archives.archive([LAYER], tags=["debian:latest"], config={"Cmd": ["a"]})
        engine.load_image([other])
        assert ensure(store) == listed == engine.inspect_image(TAG)["Id"]
        engine.remove_image(TAG)
        # The image has lost its last name, and the image of that name is another one.
        assert ensure(store) == listed
        assert server.downloads == 1

    def test_an_image_of_the_engine_stays_after_its_owner_removes_the_name(
        self, store, server, engine, listed
    ):
        ensure(store)
        engine.remove_image("debian:latest")
        assert ensure(store) == listed
        assert server.downloads == 0

    def test_an_image_that_the_engine_no_longer_has_is_downloaded(
        self, store, server, engine, listed
    ):
        engine.remove_image("debian:latest")
        assert ensure(store) == listed
        assert engine.tags == [TAG]
        assert server.downloads == 1

    def test_locations_are_not_looked_up_for_an_image_that_the_engine_has(
        self, store, engine, locations
    ):
        ensure(store)
        ensure(store)
        assert locations.asked == [IMAGE_ID]

    def test_an_image_of_the_engine_must_fit_the_root_disk(
        self, store, engine, listed, monkeypatch
    ):
        inspect = engine.inspect_image
        monkeypatch.setattr(
            engine, "inspect_image", lambda ref: inspect(ref) | {"Size": 1024**3 + 1}
        )
        with pytest.raises(exception.FlavorDiskSmallerThanImage):
            ensure(store, samples.flavor(root_gb=1))
        assert engine.tags == ["debian:latest"]

    @pytest.mark.usefixtures("pulled")
    def test_a_pulled_image_that_does_not_fit_is_removed(
        self, store, engine, monkeypatch
    ):
        inspect = engine.inspect_image
        monkeypatch.setattr(
            engine, "inspect_image", lambda ref: inspect(ref) | {"Size": 1024**3 + 1}
        )
        with pytest.raises(exception.FlavorDiskSmallerThanImage):
            ensure(store, samples.flavor(root_gb=1))
        assert engine.list_images() == []
        assert ensure(store, samples.flavor(root_gb=2))

    @pytest.mark.usefixtures("pulled")
    def test_an_image_is_not_pulled_if_its_layers_are_larger_than_the_disk(
        self, store, server, engine, size
    ):
        size[0] = 1024**3 + 1
        engine.fail_next("pull_image", AssertionError("it is too large"))
        with pytest.raises(exception.FlavorDiskSmallerThanImage):
            ensure(store, samples.flavor(root_gb=1))
        size[0] = 1024**5
        with pytest.raises(exception.CouldNotFetchImage, match="are free"):
            ensure(store, samples.flavor(root_gb=0))
        assert server.downloads == 0

    def test_another_architecture_is_refused(
        self, store, server, engine, listed, monkeypatch
    ):
        monkeypatch.setattr(engine, "version", lambda: {"Arch": "arm64"})
        with pytest.raises(exception.ImageUnacceptable, match="this host is arm64"):
            ensure(store)
        assert engine.tags == ["debian:latest"]
        assert server.downloads == 0

    @pytest.mark.usefixtures("pulled")
    def test_an_image_of_a_registry_is_pulled(self, store, server, engine):
        image_id = ensure(store)
        found = engine.inspect_image(TAG)
        assert found["Id"] == image_id
        # It has no second name, which would keep it after the removal of its tag.
        assert (found["RepoTags"], found["RepoDigests"]) == ([TAG], [])
        assert server.downloads == 0
        engine.remove_image(TAG)
        assert engine.list_images() == []

    @pytest.mark.usefixtures("pulled")
    def test_an_image_that_someone_else_has_pulled_keeps_its_name(self, store, engine):
        engine.pull_image(REPOSITORY, DIGEST)
        engine.fail_next("pull_image", AssertionError("the engine has the image"))
        ensure(store)
        found = engine.inspect_image(TAG)
        assert (found["RepoTags"], found["RepoDigests"]) == ([TAG], [REFERENCE])

    def test_an_image_of_another_engine_is_pulled_if_a_registry_has_it(
        self, store, server, engine, locations
    ):
        engine.registry[REFERENCE] = ARCHIVE
        other = "sha256:" + "0" * 64
        locations.places = [EngineImage("rack-2", "a:1", other, 5, REFERENCE)]
        assert ensure(store) == engine.inspect_image(TAG)["Id"]
        assert server.downloads == 0

    @pytest.mark.usefixtures("pulled")
    @pytest.mark.parametrize(
        "error",
        [
            errors.for_status(404, "manifest unknown"),
            errors.EngineError("no basic auth credentials", 500),
            errors.Timeout("no answer"),
        ],
    )
    def test_an_image_that_cannot_be_pulled_is_downloaded(
        self, store, server, engine, error
    ):
        engine.fail_next("pull_image", error)
        assert ensure(store) == engine.inspect_image(TAG)["Id"]
        assert server.downloads == 1

    @pytest.mark.usefixtures("pulled")
    def test_a_pulled_image_for_another_architecture_is_removed(
        self, store, engine, monkeypatch
    ):
        monkeypatch.setattr(engine, "version", lambda: {"Arch": "arm64"})
        with pytest.raises(exception.ImageUnacceptable, match="this host is arm64"):
            ensure(store)
        assert engine.list_images() == []

    @pytest.mark.usefixtures("pulled")
    def test_a_registry_receives_only_its_own_password(
        self, store, engine, tmp_path, monkeypatch
    ):
        received = []
        pull = engine.pull_image

        def record(repository: str, digest: str, auth: Any = None) -> None:
            received.append(auth)
            pull(repository, digest, auth)

        monkeypatch.setattr(engine, "pull_image", record)
        file = tmp_path / "config.json"
        for host in ("registry.test", "registry.test:5000"):
            login = {"username": "me", "password": "secret"}
            file.write_text(json.dumps({"auths": {host: login}}))
            CONF.set_override("registry_auth_file", str(file), "docker")
            ensure(store)
            engine.remove_image(TAG)
        CONF.clear_override("registry_auth_file", "docker")
        assert received == [None, ("me", "secret")]

    @pytest.mark.usefixtures("pulled")
    def test_a_malformed_credentials_file_leads_to_a_download(
        self, store, server, engine, tmp_path
    ):
        file = tmp_path / "config.json"
        file.write_text("nonsense")
        CONF.set_override("registry_auth_file", str(file), "docker")
        ensure(store)
        CONF.clear_override("registry_auth_file", "docker")
        assert server.downloads == 1

    @pytest.mark.parametrize("place", ["listed", "pulled"])
    def test_an_image_that_must_be_signed_is_downloaded(
        self, request, store, server, locations, monkeypatch, place
    ):
        """The signature is that of the bytes in Glance."""
        request.getfixturevalue(place)
        monkeypatch.setattr(
            glance.GlanceImageServiceV2, "_get_verifier", lambda *args: None
        )
        ensure(store, None, objects.TrustedCerts(ids=["one"]))
        assert server.downloads == 1
        assert locations.asked == []

    def test_properties_of_an_image_cannot_name_another_image(
        self, store, server, engine
    ):
        """A tenant could otherwise get another tenant's image by its ID."""
        secret = archives.archive([LAYER], tags=["secret:1"], config={"Cmd": ["s"]})
        engine.load_image([secret])
        theirs = engine.inspect_image("secret:1")["Id"]
        engine.registry[REFERENCE] = secret
        location = EngineImage("local", "secret:1", theirs, 5, REFERENCE).url
        written = {
            "docker_engine": "local",
            "docker_tag": "secret:1",
            "docker_image_id": theirs,
            "docker_digest": REFERENCE,
            "direct_url": location,
            "locations": [{"url": location, "metadata": {}}],
        }
        server.upload(ARCHIVE, **written)
        assert ensure(store, properties=written) != theirs
        assert server.downloads == 1
        assert engine.inspect_image("secret:1")["RepoTags"] == ["secret:1"]
