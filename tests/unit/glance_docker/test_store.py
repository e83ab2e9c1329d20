# SPDX-License-Identifier: Apache-2.0
"""The glance_store driver for images of an engine or a registry."""

from __future__ import annotations

import io

import glance_store
import pytest
from glance_store import exceptions
from glance_store import location as glance_location
from oslo_config import cfg

from docker_engine import errors
from docker_engine import location
from docker_engine import registry
from docker_engine.mock.client import MockDockerClient
from glance_docker import conf as options
from glance_docker import store as stores
from glance_docker.export import Measurement
from glance_docker.export import export
from tests import archives

LAYER = archives.tar({"etc/motd": b"hello\n" * 1000})
BACKEND = "docker1"


class Engine(MockDockerClient):
    """An engine whose exports can break off.

    :ivar read: bytes that have been read of its exports
    :ivar ends: bytes after which an export ends; None for all
    """

    def __init__(self):
        super().__init__()
        self.read = 0
        self.ends = None

    def save_image(self, ref):
        content = super().save_image(ref).read()
        return _Counted(self, content[: self.ends])


class _Counted(io.BytesIO):
    def __init__(self, engine, content):
        super().__init__(content)
        self._engine = engine

    def read(self, size=-1):
        # Small chunks, so that there are many.
        found = super().read(min(size, 1000) if size > 0 else 1000)
        self._engine.read += len(found)
        return found


class Timer:
    """A timer that only a test lets run out."""

    def __init__(self, seconds, function):
        self.seconds = seconds
        self.function = function

    def start(self):
        pass

    cancel = start


@pytest.fixture
def engine(monkeypatch):
    engine = Engine()
    engine.load_image([archives.archive([LAYER], tags=["debian:12"])])
    monkeypatch.setattr(options, "engine", lambda group: engine)
    return engine


def configured(locks=None, **values):
    conf = cfg.ConfigOpts()
    conf([])
    conf.register_opts(options.store_opts, group=BACKEND)
    # Glance registers this option for every store.
    conf.register_opt(cfg.StrOpt("store_description"), group=BACKEND)
    for name, value in values.items():
        conf.set_override(name, value, BACKEND)
    options.lock_path(conf)
    conf.set_override("lock_path", locks and str(locks), "oslo_concurrency")
    return stores.Store(conf, backend=BACKEND)


@pytest.fixture
def store(engine):
    return configured()


def at(url):
    return glance_location.Location(
        location.SCHEME, stores.StoreLocation, cfg.ConfigOpts(), uri=url
    )


@pytest.fixture
def image_id(engine):
    return engine.inspect_image("debian:12")["Id"]


@pytest.fixture
def content(engine, image_id):
    return b"".join(export(engine, image_id, "debian:12"))


@pytest.fixture
def place(image_id, content):
    return location.EngineImage("local", "debian:12", image_id, len(content))


class TestStore:
    def test_it_is_read_only(self, store):
        store.configure()
        with pytest.raises(exceptions.StoreAddDisabled):
            store.add("id", io.BytesIO(b"x"), 1)
        with pytest.raises(exceptions.StoreDeleteNotSupported):
            store.delete(at("docker://ghcr.io/a@sha256:" + "1" * 64))

    def test_it_is_found_by_its_url_prefix(self, engine):
        assert configured().url_prefix == "docker://local/"
        assert configured(docker_engine="rack-1").url_prefix == "docker://rack-1/"
        found = configured(docker_registry="ghcr.io:443")
        assert found.url_prefix == "docker://ghcr.io:443/"
        assert found.get_schemes() == ("docker",)

    @pytest.mark.parametrize("name", ["", "a/b", "a:1", "..", "ä"])
    def test_an_invalid_engine_name_is_rejected(self, engine, name):
        with pytest.raises(exceptions.BadStoreConfiguration, match="engine name"):
            configured(docker_engine=name)

    def test_an_invalid_engine_address_is_rejected(self):
        with pytest.raises(exceptions.BadStoreConfiguration, match="not an engine"):
            configured(docker_host="http://there")

    @pytest.mark.parametrize(
        "url", ["docker://local/a:1", "docker://", "docker://local/../a:1?id=1"]
    )
    def test_a_malformed_location_is_rejected(self, url):
        with pytest.raises(exceptions.BadStoreUri, match="not a docker:// location"):
            at(url)

    @pytest.mark.parametrize(
        "url",
        [
            "docker://rack-2/debian:12?id=sha256:{0}&size=5",
            "docker://loca/debian:12?id=sha256:{0}&size=5",
            "docker://local2/debian:12?id=sha256:{0}&size=5",
            "docker://ghcr.io/a@sha256:{0}",
        ],
    )
    def test_an_image_of_another_store_is_rejected(self, store, engine, url):
        place = at(url.format("1" * 64))
        for call in (store.get, store.get_size):
            with pytest.raises(exceptions.BadStoreUri, match="does not belong to"):
                call(place)
        assert engine.read == 0


class TestEngineImage:
    def test_it_has_the_size_that_was_measured(self, store, engine, place, content):
        chunks, size = store.get(at(place.url))
        assert b"".join(chunks) == content
        assert size == store.get_size(at(place.url)) == len(content)
        assert Measurement(engine, place.image_id).size("debian:12") == len(content)

    def test_its_archive_has_the_name_in_the_location(self, store, place):
        chunks, _ = store.get(at(place.url))
        other = MockDockerClient()
        other.load_image(chunks)
        [found] = other.list_images()
        assert (found["Id"], found["RepoTags"]) == (place.image_id, ["debian:12"])

    @pytest.mark.parametrize(
        "part", [{"offset": 1}, {"chunk_size": 1}, {"chunk_size": 0}]
    )
    def test_a_part_costs_no_export(self, store, engine, place, part):
        engine.read = 0
        with pytest.raises(exceptions.StoreRandomGetNotSupported):
            store.get(at(place.url), **part)
        assert engine.read == 0

    def test_a_size_costs_no_export(self, store, engine, place, content):
        engine.read = 0
        assert store.get_size(at(place.url)) == len(content)
        assert engine.read == 0

    def test_only_so_many_exports_run_at_a_time(self, engine, place, content, tmp_path):
        values = {"docker_exports": 3, "docker_export_wait": 0}
        # Two workers of Glance; the third export is left to glance-docker-sync.
        first, second = (configured(locks=tmp_path, **values) for _ in range(2))
        reads = [store.get(at(place.url))[0] for store in (first, second)]
        engine.read = 0
        for store in (first, second):
            with pytest.raises(exceptions.RemoteServiceUnavailable, match="2 exports"):
                store.get(at(place.url))
        assert engine.read == 0
        assert b"".join(reads.pop()) == content
        reads.append(second.get(at(place.url))[0])
        # Glance drops what it reads when the client goes away.
        reads.clear()
        reads = [first.get(at(place.url))[0] for _ in range(2)]
        assert [b"".join(chunks) for chunks in reads] == [content] * 2

    def test_a_failed_export_leaves_no_slot_taken(self, engine, place):
        store = configured(docker_exports=1, docker_export_wait=0)
        for _ in range(3):
            engine.fail_next("save_image", errors.Unreachable("gone"))
            with pytest.raises(exceptions.RemoteServiceUnavailable, match="gone"):
                store.get(at(place.url))

    def test_a_reader_that_does_not_read_is_cut_off(self, engine, place, monkeypatch):
        timers = []
        monkeypatch.setattr(
            "threading.Timer", lambda *args: timers.append(Timer(*args)) or timers[-1]
        )
        store = configured(docker_exports=1, docker_export_wait=0, docker_export_rate=1)
        stuck = store.get(at(place.url))[0]
        next(stuck)
        next(stuck)
        [timer] = timers
        assert timer.seconds == 60 + place.size / 1024
        timer.function()
        # Another reader gets the slot, and the first one no short image.
        other = store.get(at(place.url))[0]
        with pytest.raises(exceptions.RemoteServiceUnavailable, match="cut off"):
            list(stuck)
        assert sum(map(len, other)) == place.size

    def test_nothing_is_read_before_glance_reads(self, store, engine, place, content):
        engine.read = 0
        store.get(at(place.url))
        assert engine.read < len(content) / 2

    def test_an_image_that_is_gone_is_not_found(self, store, engine, place):
        engine.remove_image("debian:12")
        for call in (store.get, store.get_size):
            with pytest.raises(exceptions.NotFound, match="No such image"):
                call(at(place.url))

    def test_an_image_that_goes_later_is_not_found(
        self, store, engine, place, monkeypatch
    ):
        clock = [1000.0]
        monkeypatch.setattr("time.monotonic", lambda: clock[0])
        assert store.get_size(at(place.url)) == place.size
        engine.remove_image("debian:12")
        clock[0] += 5
        with pytest.raises(exceptions.NotFound):
            store.get_size(at(place.url))

    def test_each_image_is_looked_up(self, store, place):
        store.get_size(at(place.url))
        other = location.EngineImage("local", "a:1", "sha256:" + "0" * 64, 5)
        with pytest.raises(exceptions.NotFound):
            store.get_size(at(other.url))

    def test_it_is_read_by_its_id(self, store, engine, place, content):
        engine.tag_image("debian:12", "kept", "1")
        other = archives.archive([LAYER], tags=["debian:12"], config={"Cmd": ["a"]})
        engine.load_image([other])
        assert b"".join(store.get(at(place.url))[0]) == content

    @pytest.mark.parametrize(
        "error", [errors.Unreachable("gone"), errors.Timeout("silent")]
    )
    def test_an_engine_that_is_away_is_unavailable(self, store, engine, place, error):
        engine.fail_next("save_image", error)
        with pytest.raises(exceptions.RemoteServiceUnavailable, match=str(error)):
            store.get(at(place.url))
        engine.fail_next("inspect_image", error)
        with pytest.raises(exceptions.RemoteServiceUnavailable, match=str(error)):
            store.get_size(at(place.url))

    @pytest.mark.parametrize("step", [-1, 1, -512, 512])
    def test_a_wrong_size_in_the_location_raises_an_error(self, store, place, step):
        """Otherwise Glance would answer with a Content-Length that is wrong."""
        wrong = location.EngineImage(
            "local", "debian:12", place.image_id, place.size + step
        )
        chunks, _ = store.get(at(wrong.url))
        read = []
        with pytest.raises(glance_store.BackendException, match="does not have"):
            read.extend(map(len, chunks))
        assert sum(read) <= wrong.size

    def test_a_truncated_export_raises_an_error(self, store, engine, place, content):
        engine.ends = len(content) // 2
        chunks, _ = store.get(at(place.url))
        with pytest.raises(exceptions.BadStoreUri, match="truncated"):
            list(chunks)


class _Registry:
    """A registry that has every image, with the same content."""

    error: Exception | None = None
    made: tuple[str, dict[str, object]]

    def __init__(self, host, **arguments):
        type(self).made = (host, arguments)

    def resolve(self, repository, digest, architecture):
        if self.error:
            raise self.error
        self.asked = repository, digest
        blob = registry.Descriptor("sha256:" + "3" * 64, 700, "")
        return registry.Image(repository, digest, blob, (blob,))

    def blob(self, repository, descriptor):
        yield b"x" * descriptor.size


class TestRegistryImage:
    URL = "docker://ghcr.io/team/app@sha256:" + "2" * 64

    @pytest.fixture
    def store(self, monkeypatch):
        monkeypatch.setattr(registry, "Registry", _Registry)
        monkeypatch.setattr(_Registry, "error", None)
        return configured(docker_registry="ghcr.io", docker_read_timeout=7)

    def test_it_has_the_size_that_the_store_reports(self, store):
        chunks, size = store.get(at(self.URL))
        content = b"".join(chunks)
        assert len(content) == size == store.get_size(at(self.URL))
        assert archives.members(content).keys() == {
            "config.json",
            "1.tar",
            "manifest.json",
        }
        with pytest.raises(exceptions.StoreRandomGetNotSupported):
            store.get(at(self.URL), offset=600, chunk_size=1000)

    def test_it_is_resolved_by_its_digest(self, store):
        store.get_size(at(self.URL))
        assert store._source._registry.asked == ("team/app", "sha256:" + "2" * 64)
        host, arguments = _Registry.made
        assert host == "ghcr.io"
        assert arguments["verify"] and arguments["read_timeout"] == 7

    def test_an_image_of_another_registry_is_rejected(self, store):
        other = self.URL.replace("ghcr.io", "ghcr.io:444")
        with pytest.raises(exceptions.BadStoreUri, match="does not belong to"):
            store.get(at(other))

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (registry.NotFound("no such"), exceptions.NotFound),
            (registry.BadImage("no such"), exceptions.BadStoreUri),
            (registry.Refused("no such"), exceptions.RemoteServiceUnavailable),
            (registry.Unreachable("no such"), exceptions.RemoteServiceUnavailable),
        ],
    )
    def test_registry_errors_are_translated(self, store, monkeypatch, error, kind):
        monkeypatch.setattr(_Registry, "error", error)
        for call in (store.get, store.get_size):
            with pytest.raises(kind, match="no such"):
                call(at(self.URL))

    def test_a_malformed_credentials_file_is_rejected(self, monkeypatch, tmp_path):
        file = tmp_path / "config.json"
        file.write_text("nonsense")
        with pytest.raises(exceptions.BadStoreConfiguration, match="not valid JSON"):
            configured(docker_registry="ghcr.io", docker_registry_auth_file=str(file))
