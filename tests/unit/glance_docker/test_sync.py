# SPDX-License-Identifier: Apache-2.0
"""Glance lists what the engine has, and nothing that it has not."""

from __future__ import annotations

import contextlib
import io
import threading
import time

import pytest

from docker_engine import errors
from docker_engine import location
from docker_engine.mock.client import MockDockerClient
from glance_docker import conf as options
from glance_docker import listing
from glance_docker import sync as syncs
from glance_docker.export import export
from glance_docker.gateway import Catalog
from glance_docker.gateway import CatalogError
from glance_docker.sync import Follower
from glance_docker.sync import Sync
from tests import archives
from tests import glance

LAYER = archives.tar({"etc/motd": b"hello\n"})
TIMEOUT = 10


class Engine(MockDockerClient):
    """An engine of which some exports break off; ``away`` is what it answers then."""

    def __init__(self):
        super().__init__()
        self.broken = set()
        self.saved = []
        self.away = None

    def _call(self, method):
        if self.away:
            raise self.away
        super()._call(method)

    def save_image(self, ref):
        self.saved.append(ref)
        stream = super().save_image(ref)
        if ref in self.broken:
            content = stream.read()
            return io.BytesIO(content[: len(content) // 2])
        return stream

    def load(self, *tags, **config):
        """Have an image with these names; return its id."""
        self.load_image([archives.archive([LAYER], tags=tags, config=config)])
        return self.inspect_image(tags[0])["Id"]


@pytest.fixture
def server():
    with glance.running() as server:
        yield server


@pytest.fixture
def engine():
    return Engine()


@pytest.fixture
def process(engine, server):
    """Starts a process, as it were, that has no memory of the last."""
    with contextlib.ExitStack() as stack:

        def start(*rules, default="public"):
            found = Sync(
                engine,
                Catalog(server.adapter(), "local"),
                "local",
                listing.Rules(rules, default),
                workers=4,
            )
            stack.callback(found.close)
            return found

        yield start


@pytest.fixture
def sync(process):
    return process()


def compare(sync):
    sync.run()
    sync.finish()


def ids(server):
    return {image["name"]: image["id"] for image in server.images.values()}


class TestSync:
    def test_two_tags_are_two_images(self, engine, server, sync):
        image_id = engine.load("a:1", "a:2")
        compare(sync)
        assert server.names == ["a:1", "a:2"]
        for name in ("a:1", "a:2"):
            image = server.named(name)
            assert image["status"] == "active"
            assert image["docker_image_id"] == image_id
            [url] = server.locations[image["id"]]
            place = location.parse(url)
            assert (place.engine, place.name) == ("local", name)
            exported = b"".join(export(engine, image_id, name))
            assert place.size == len(exported)
        # It is measured once.
        assert engine.saved.count(image_id) == 1 + 2

    def test_nothing_is_asked_or_done_twice(self, engine, server, sync):
        engine.load("a:1")
        compare(sync)
        server.calls.clear()
        engine.saved.clear()
        compare(sync)
        assert server.calls == engine.saved == []
        sync.run(refresh=True)
        # Those that are hidden, and the others.
        assert server.calls == ["GET /v2/images"] * 2

    def test_a_tag_that_moved_is_a_new_image(self, engine, server, sync):
        engine.load("a:1", Cmd=["old"])
        compare(sync)
        old = server.named("a:1")["id"]
        moved = engine.load("a:1", Cmd=["new"])
        compare(sync)
        image = server.named("a:1")
        assert image["docker_image_id"] == moved and image["id"] != old
        assert old in server.deleted

    def test_a_tag_that_moved_back_has_another_id(self, engine, server, sync):
        """Glance knows the first as deleted, and Nova may have it in its cache."""
        for command in ("old", "new", "old"):
            engine.load("a:1", Cmd=[command])
            compare(sync)
        assert server.named("a:1")["status"] == "active"
        assert len(server.deleted) == 2

    def test_what_lost_its_name_is_not_listed_any_more(self, engine, server, sync):
        engine.load("a:1", "a:2")
        compare(sync)
        engine.remove_image("a:1")
        compare(sync)
        assert server.names == ["a:2"]
        engine.remove_image("a:2")
        compare(sync)
        assert server.names == []

    def test_what_nova_keeps_for_itself_is_not_listed(self, engine, server, sync):
        engine.load("nova-glance/8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd:latest")
        compare(sync)
        assert server.images == {} and engine.saved == []

    def test_what_others_put_into_glance_stays(self, engine, server, sync):
        engine.load("a:1")
        compare(sync)
        copied = {k: v for k, v in server.named("a:1").items() if k != "id"}
        server.add(**copied | {"name": "copy"})
        server.add(name="another", owner="another")
        before = {k: dict(v) for k, v in server.images.items()}
        sync.run(refresh=True)
        assert server.images == before
        engine.remove_image("a:1")
        sync.run(refresh=True)
        assert server.names == ["another", "copy"]

    def test_rules_say_who_sees_an_image(self, engine, server, process):
        engine.load("team/a:1", "a:scratch", "a:1")
        compare(process("team/* project:p1", "*:scratch hidden", default="private"))
        assert server.names == ["a:1", "team/a:1"]
        assert server.named("a:1")["visibility"] == "private"
        team = server.named("team/a:1")
        assert team["visibility"] == "shared"
        assert server.members[team["id"]] == {"p1": "accepted"}

    def test_new_rules_count_after_a_restart(self, engine, server, process):
        engine.load("a:1", "b:1", "c:1")
        compare(process("a* project:p1", default="public"))
        before = ids(server)
        compare(process("a* project:p2", "b* hidden", default="community"))
        after = ids(server)
        assert after == {name: before[name] for name in ("a:1", "c:1")}
        assert server.members[after["a:1"]] == {"p2": "accepted"}
        assert server.named("c:1")["visibility"] == "community"

    def test_what_was_changed_in_glance_is_put_right(self, engine, server, sync):
        engine.load("a:1", "b:1")
        compare(sync)
        before = ids(server)
        server.named("a:1").update(name="mine", protected=False)
        gone = server.named("b:1")["id"]
        del server.images[gone]
        server.deleted.add(gone)
        sync.run(refresh=True)
        sync.finish()
        assert server.names == ["a:1", "b:1"]
        assert server.named("a:1")["id"] == before["a:1"]
        assert server.named("a:1")["protected"]

    def test_a_restart_catches_up_and_keeps_ids(self, engine, server, process):
        engine.load("stays:1")
        engine.load("goes:1", Cmd=["goes"])
        compare(process())
        before = ids(server)
        engine.remove_image("goes:1")
        engine.load("comes:1", Cmd=["comes"])
        compare(process())
        assert server.names == ["comes:1", "stays:1"]
        assert ids(server)["stays:1"] == before["stays:1"]

    def test_a_restart_finishes_what_had_no_location(self, engine, server, process):
        engine.load("a:1")
        first = process()
        server.fails = lambda method, path: 503 if "locations" in path else 0
        first.run()
        with pytest.raises(CatalogError):
            first.finish()
        assert server.named("a:1")["status"] == "queued"
        before = ids(server)
        server.fails = lambda method, path: 0
        compare(process())
        assert server.named("a:1")["status"] == "active"
        assert ids(server) == before


class TestFailures:
    def test_without_the_engine_nothing_changes(self, engine, server, sync):
        engine.load("a:1")
        compare(sync)
        engine.away = errors.Unreachable("gone")
        for refresh in (False, True):
            with pytest.raises(errors.Unreachable):
                sync.run(refresh=refresh)
        assert server.names == ["a:1"] and not server.deleted

    def test_without_glance_it_is_done_later(self, engine, server, sync):
        engine.load("a:1", "a:2")
        server.fails = lambda method, path: 503
        with pytest.raises(CatalogError):
            sync.run()
        server.fails = lambda method, path: 0
        compare(sync)
        assert server.names == ["a:1", "a:2"]

    def test_one_image_that_glance_refuses_is_alone(self, engine, server, sync):
        engine.load("a:1", "a:2", "a:3")
        refused = listing.glance_id(
            "local", listing.Key("a:2", engine.inspect_image("a:2")["Id"])
        )
        sync.run()
        sync.finish()
        engine.remove_image("a:1")
        engine.remove_image("a:2")
        server.fails = lambda method, path: 500 if refused in path else 0
        with pytest.raises(CatalogError):
            sync.run()
        assert server.names == ["a:2", "a:3"]
        server.fails = lambda method, path: 0
        sync.run()
        assert server.names == ["a:3"]

    def test_an_image_that_goes_before_it_is_looked_at(self, engine, server, sync):
        engine.load("a:1")
        engine.load("b:1", Cmd=["b"])
        engine.fail_next("inspect_image", errors.for_status(404, "No such image"))
        sync.run()
        assert len(server.names) == 1

    def test_an_image_that_goes_before_it_is_measured(self, engine, server, sync):
        engine.load("a:1")
        engine.load("b:1", Cmd=["b"])
        engine.fail_next("save_image", errors.for_status(404, "No such image"))
        sync.run()
        with pytest.raises(errors.NotFound):
            sync.finish()
        assert sorted(i["status"] for i in server.images.values()) == [
            "active",
            "queued",
        ]
        compare(sync)
        assert {i["status"] for i in server.images.values()} == {"active"}

    def test_an_export_that_is_cut_short_is_not_listed(self, engine, server, sync):
        engine.broken.add(engine.load("broken:1"))
        engine.load("right:1", Cmd=["right"])
        compare(sync)
        assert server.names == ["right:1"]
        assert server.named("right:1")["status"] == "active"
        # Nor tried again and again.
        server.calls.clear()
        engine.saved.clear()
        compare(sync)
        assert server.changes == engine.saved == []

    def test_glance_that_does_not_finish_is_asked_anew(self, engine, server, sync):
        engine.load("a:1")
        server.importing = True
        compare(sync)
        assert not sync.settle()
        server.named("a:1")["status"] = "queued"
        assert not sync.settle()
        server.importing = False
        compare(sync)
        assert sync.settle()
        assert server.named("a:1")["status"] == "active"

    def test_glance_that_finishes_is_believed(self, engine, server, sync):
        engine.load("a:1")
        server.importing = True
        compare(sync)
        server.named("a:1")["status"] = "active"
        assert sync.settle()
        server.calls.clear()
        assert sync.settle()
        assert server.calls == []


@contextlib.contextmanager
def following(engine, sync):
    follower = Follower(engine, sync, refresh_interval=300)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        yield thread
    finally:
        follower.stop()
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def eventually(condition):
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def active(server):
    return sorted(i["name"] for i in server.images.values() if i["status"] == "active")


class TestFollower:
    @pytest.fixture(autouse=True)
    def _fast(self, monkeypatch):
        monkeypatch.setattr(syncs, "RETRY_INTERVAL", 0.05)
        monkeypatch.setattr(syncs, "SETTLE_INTERVAL", 0.05)

    def test_what_changes_on_the_engine_shows_at_once(self, engine, server, sync):
        engine.load("a:1")
        with following(engine, sync):
            eventually(lambda: active(server) == ["a:1"])
            engine.tag_image("a:1", "b", "1")
            eventually(lambda: active(server) == ["a:1", "b:1"])
            engine.remove_image("a:1")
            eventually(lambda: active(server) == ["b:1"])

    def test_an_engine_that_was_away_is_watched_again(self, engine, server, sync):
        engine.load("a:1")
        with following(engine, sync):
            eventually(lambda: active(server) == ["a:1"])
            engine.away = errors.Unreachable("gone")
            for stream in engine._streams:
                stream.close()
            time.sleep(0.2)
            assert active(server) == ["a:1"]
            engine.away = None
            # Nobody has seen this one's event, perhaps.
            engine.tag_image("a:1", "b", "1")
            eventually(lambda: active(server) == ["a:1", "b:1"])
            eventually(lambda: engine._streams)
            engine.tag_image("a:1", "c", "1")
            eventually(lambda: active(server) == ["a:1", "b:1", "c:1"])

    def test_glance_that_was_away_is_tried_again(self, engine, server, sync):
        server.fails = lambda method, path: 503
        engine.load("a:1")
        with following(engine, sync):
            eventually(lambda: len(server.calls) > 2)
            server.fails = lambda method, path: 0
            eventually(lambda: active(server) == ["a:1"])

    def test_a_location_that_glance_refused_is_tried_again(self, engine, server, sync):
        server.fails = lambda method, path: 503 if "locations" in path else 0
        engine.load("a:1")
        with following(engine, sync):
            eventually(lambda: any("locations" in call for call in server.calls))
            server.fails = lambda method, path: 0
            eventually(lambda: active(server) == ["a:1"])

    def test_a_surprise_does_not_end_it(self, engine, server, sync):
        engine.fail_next("list_images", ZeroDivisionError())
        engine.load("a:1")
        with following(engine, sync):
            eventually(lambda: active(server) == ["a:1"])

    def test_it_ends_while_the_engine_is_away(self, engine, sync):
        engine.away = errors.Unreachable("gone")
        with following(engine, sync):
            time.sleep(0.2)


class TestMain:
    @pytest.fixture
    def config(self, tmp_path, engine, server, monkeypatch):
        monkeypatch.setattr(options, "engine", lambda group: engine)
        monkeypatch.setattr(options, "glance", lambda conf: server.adapter())

        def write(text=""):
            path = tmp_path / "sync.conf"
            path.write_text(text)
            return ["--once", "--config-file", str(path)]

        return write

    def test_it_compares_once(self, engine, server, config):
        engine.load("a:1")
        text = "[engine]\ndocker_engine = rack-1\n[sync]\nrule = a:* community\n"
        assert syncs.main(config(text)) == 0
        image = server.named("a:1")
        assert (image["status"], image["visibility"]) == ("active", "community")
        assert server.locations[image["id"]][0].startswith("docker://rack-1/a:1?")

    def test_what_cannot_be_listed_is_no_failure(self, engine, server, config):
        engine.broken.add(engine.load("a:1"))
        assert syncs.main(config()) == 0
        assert server.images == {}

    def test_it_says_when_the_engine_is_away(self, engine, config):
        engine.away = errors.Unreachable("gone")
        assert syncs.main(config()) == 1

    @pytest.mark.parametrize("part", ["images", "locations"])
    def test_it_says_when_glance_fails(self, engine, server, config, part):
        server.fails = lambda method, path: 503 if path.endswith(part) else 0
        engine.load("a:1")
        assert syncs.main(config()) == 1

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[sync]\nrule = nonsense\n", "not a rule"),
            ("[sync]\naccess = nobody\n", "'nobody' is none of public"),
            ("[sync]\nworkers = 0\n", "workers"),
            ("[engine]\ndocker_engine = a/b\n", "not a valid engine name"),
            ("nonsense", "sync.conf"),
        ],
    )
    def test_a_configuration_that_is_wrong(self, config, text, why):
        with pytest.raises(SystemExit) as caught:
            syncs.main(config(text))
        assert str(caught.value.code).startswith("glance-docker-sync: ")
        assert why in str(caught.value.code)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("[engine]\ndocker_host = http://there\n", "not an engine"),
            ("[glance]\nauth_type = nonsense\n", r"[glance]: "),
            ("", "[glance]"),
        ],
    )
    def test_a_configuration_that_says_too_little(self, tmp_path, text, why):
        path = tmp_path / "sync.conf"
        path.write_text(text)
        with pytest.raises(SystemExit) as caught:
            syncs.main(["--once", "--config-file", str(path)])
        assert why in str(caught.value.code)

    def test_a_file_that_is_not_there(self):
        with pytest.raises(SystemExit) as caught:
            syncs.main(["--config-file", "/no/such/file"])
        assert "/no/such/file" in str(caught.value.code)
