# SPDX-License-Identifier: Apache-2.0
"""Glance's store of what Docker has."""

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
from glance_docker.export import Measure
from glance_docker.export import export
from tests import archives

LAYER = archives.tar({"etc/motd": b"hello\n" * 1000})
BACKEND = "docker1"


class Engine(MockDockerClient):
    """An engine that counts, and of which an export may break off."""

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
        # Small, so that there are many.
        found = super().read(min(size, 1000) if size > 0 else 1000)
        self._engine.read += len(found)
        return found


@pytest.fixture
def engine(monkeypatch):
    engine = Engine()
    engine.load_image([archives.archive([LAYER], tags=["debian:12"])])
    monkeypatch.setattr(options, "engine", lambda group: engine)
    return engine


def configured(**values):
    conf = cfg.ConfigOpts()
    conf([])
    conf.register_opts(options.store_opts, group=BACKEND)
    # What every store has.
    conf.register_opt(cfg.StrOpt("store_description"), group=BACKEND)
    for name, value in values.items():
        conf.set_override(name, value, BACKEND)
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
    def test_it_only_reads(self, store):
        store.configure()
        with pytest.raises(exceptions.StoreAddDisabled):
            store.add("id", io.BytesIO(b"x"), 1)
        with pytest.raises(exceptions.StoreDeleteNotSupported):
            store.delete(at("docker://ghcr.io/a@sha256:" + "1" * 64))

    def test_glance_finds_it_by_its_prefix(self, engine):
        assert configured().url_prefix == "docker://local/"
        assert configured(docker_engine="rack-1").url_prefix == "docker://rack-1/"
        found = configured(docker_registry="ghcr.io:443")
        assert found.url_prefix == "docker://ghcr.io:443/"
        assert found.get_schemes() == ("docker",)

    @pytest.mark.parametrize("name", ["", "a/b", "a:1", "..", "ä"])
    def test_a_name_that_no_location_has(self, engine, name):
        with pytest.raises(exceptions.BadStoreConfiguration, match="engine name"):
            configured(docker_engine=name)

    def test_an_address_that_is_no_engines(self):
        with pytest.raises(exceptions.BadStoreConfiguration, match="not an engine"):
            configured(docker_host="http://there")

    @pytest.mark.parametrize(
        "url", ["docker://local/a:1", "docker://", "docker://local/../a:1?id=1"]
    )
    def test_what_is_no_location(self, url):
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
    def test_another_stores_image(self, store, engine, url):
        place = at(url.format("1" * 64))
        for call in (store.get, store.get_size):
            with pytest.raises(exceptions.BadStoreUri, match="not in the store"):
                call(place)
        assert engine.read == 0


class TestAnEnginesImage:
    def test_its_bytes_are_those_that_were_measured(
        self, store, engine, place, content
    ):
        chunks, size = store.get(at(place.url))
        assert b"".join(chunks) == content
        assert size == store.get_size(at(place.url)) == len(content)
        assert Measure(engine, place.image_id).size("debian:12") == len(content)

    def test_they_are_an_archive_with_the_locations_name(self, store, place):
        chunks, _ = store.get(at(place.url))
        other = MockDockerClient()
        other.load_image(chunks)
        [found] = other.list_images()
        assert (found["Id"], found["RepoTags"]) == (place.image_id, ["debian:12"])

    def test_any_part_of_it(self, store, engine, place, content):
        where = at(place.url)
        whole = [len(chunk) for chunk in store.get(where)[0]]
        edges = {0, 1, len(content) - 1, len(content)}
        ends = [sum(whole[:number]) for number in range(len(whole))]
        edges |= {end + step for end in ends for step in (-1, 0, 1) if end + step > 0}
        for start in sorted(edges):
            for length in (None, 1, 511, 512, 513, len(content) - start):
                if length is not None and not 0 < length <= len(content) - start:
                    continue
                chunks, size = store.get(where, offset=start, chunk_size=length)
                end = None if length is None else start + length
                assert b"".join(chunks) == content[start:end], (start, length)
                assert size == (len(content) if length is None else length)

    def test_no_more_is_read_than_is_asked_for(self, store, engine, place, content):
        engine.read = 0
        chunks, _ = store.get(at(place.url), offset=10, chunk_size=20)
        assert b"".join(chunks) == content[10:30]
        assert engine.read < len(content) / 2

    def test_nothing_is_read_before_glance_reads(self, store, engine, place, content):
        engine.read = 0
        store.get(at(place.url))
        assert engine.read < len(content) / 2

    def test_an_image_that_has_gone(self, store, engine, place):
        engine.remove_image("debian:12")
        for call in (store.get, store.get_size):
            with pytest.raises(exceptions.NotFound, match="No such image"):
                call(at(place.url))

    def test_an_image_that_goes_after_it_was_seen(
        self, store, engine, place, monkeypatch
    ):
        clock = [1000.0]
        monkeypatch.setattr("time.monotonic", lambda: clock[0])
        assert store.get_size(at(place.url)) == place.size
        engine.remove_image("debian:12")
        clock[0] += 5
        with pytest.raises(exceptions.NotFound):
            store.get_size(at(place.url))

    def test_one_that_was_seen_says_nothing_of_another(self, store, place):
        store.get_size(at(place.url))
        other = location.EngineImage("local", "a:1", "sha256:" + "0" * 64, 5)
        with pytest.raises(exceptions.NotFound):
            store.get_size(at(other.url))

    def test_its_name_may_be_another_images_by_now(self, store, engine, place, content):
        engine.tag_image("debian:12", "kept", "1")
        other = archives.archive([LAYER], tags=["debian:12"], config={"Cmd": ["a"]})
        engine.load_image([other])
        assert b"".join(store.get(at(place.url))[0]) == content

    @pytest.mark.parametrize(
        "error", [errors.Unreachable("gone"), errors.Timeout("silent")]
    )
    def test_an_engine_that_is_away(self, store, engine, place, error):
        engine.fail_next("save_image", error)
        with pytest.raises(exceptions.RemoteServiceUnavailable, match=str(error)):
            store.get(at(place.url))
        engine.fail_next("inspect_image", error)
        with pytest.raises(exceptions.RemoteServiceUnavailable, match=str(error)):
            store.get_size(at(place.url))

    @pytest.mark.parametrize("step", [-1, 1, -512, 512])
    def test_another_length_than_the_locations(self, store, place, step):
        """Glance would answer with a length that is not the image's."""
        wrong = location.EngineImage(
            "local", "debian:12", place.image_id, place.size + step
        )
        chunks, _ = store.get(at(wrong.url))
        read = []
        with pytest.raises(glance_store.BackendException, match="not as long"):
            read.extend(map(len, chunks))
        assert sum(read) <= wrong.size

    def test_an_export_that_is_cut_short(self, store, engine, place, content):
        engine.ends = len(content) // 2
        chunks, _ = store.get(at(place.url))
        with pytest.raises(exceptions.BadStoreUri, match="truncated"):
            list(chunks)


class _Registry:
    """A registry that has one image, as an archive."""

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


class TestARegistrysImage:
    URL = "docker://ghcr.io/team/app@sha256:" + "2" * 64

    @pytest.fixture
    def store(self, monkeypatch):
        monkeypatch.setattr(registry, "Registry", _Registry)
        monkeypatch.setattr(_Registry, "error", None)
        return configured(docker_registry="ghcr.io", docker_read_timeout=7)

    def test_it_is_as_long_as_it_says(self, store):
        chunks, size = store.get(at(self.URL))
        content = b"".join(chunks)
        assert len(content) == size == store.get_size(at(self.URL))
        assert archives.members(content).keys() == {
            "config.json",
            "1.tar",
            "manifest.json",
        }
        chunks, size = store.get(at(self.URL), offset=600, chunk_size=1000)
        assert b"".join(chunks) == content[600:1600]

    def test_it_is_asked_for_by_its_digest(self, store):
        store.get_size(at(self.URL))
        assert store._source._registry.asked == ("team/app", "sha256:" + "2" * 64)
        host, arguments = _Registry.made
        assert host == "ghcr.io"
        assert arguments["verify"] and arguments["read_timeout"] == 7

    def test_another_registrys_image(self, store):
        other = self.URL.replace("ghcr.io", "ghcr.io:444")
        with pytest.raises(exceptions.BadStoreUri, match="not in the store"):
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
    def test_what_a_registry_answers(self, store, monkeypatch, error, kind):
        monkeypatch.setattr(_Registry, "error", error)
        for call in (store.get, store.get_size):
            with pytest.raises(kind, match="no such"):
                call(at(self.URL))

    def test_a_file_of_passwords_that_is_none(self, monkeypatch, tmp_path):
        file = tmp_path / "config.json"
        file.write_text("nonsense")
        with pytest.raises(exceptions.BadStoreConfiguration, match="not valid JSON"):
            configured(docker_registry="ghcr.io", docker_registry_auth_file=str(file))
