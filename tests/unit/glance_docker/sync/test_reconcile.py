# SPDX-License-Identifier: Apache-2.0
"""Glance lists what the engine has, and nothing that it does not have."""

from __future__ import annotations

import pytest

from docker_engine import errors
from docker_engine import location
from glance_docker import image_metadata
from glance_docker.export import export
from glance_docker.gateway import GatewayError


def reconcile(reconciler):
    reconciler.run()
    reconciler.finish()


def ids(server):
    return {image["name"]: image["id"] for image in server.images.values()}


class TestRun:
    def test_two_tags_are_two_images(self, engine, server, reconciler):
        image_id = engine.load("a:1", "a:2")
        reconcile(reconciler)
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
        # It is measured once; the test exports it twice.
        assert engine.saved.count(image_id) == 1 + 2

    def test_nothing_is_asked_or_done_twice(self, engine, server, reconciler):
        engine.load("a:1")
        reconcile(reconciler)
        server.calls.clear()
        engine.saved.clear()
        reconcile(reconciler)
        assert server.calls == engine.saved == []
        reconciler.run(refresh=True)
        # The hidden images, and the others.
        assert server.calls == ["GET /v2/images"] * 2

    def test_a_tag_that_moved_is_a_new_image(self, engine, server, reconciler):
        engine.load("a:1", Cmd=["old"])
        reconcile(reconciler)
        old = server.named("a:1")["id"]
        moved = engine.load("a:1", Cmd=["new"])
        reconcile(reconciler)
        image = server.named("a:1")
        assert image["docker_image_id"] == moved and image["id"] != old
        assert old in server.deleted

    def test_a_tag_that_moved_back_gets_a_new_id(self, engine, server, reconciler):
        """Glance never uses an ID twice, and Nova may have the first in its cache."""
        for command in ("old", "new", "old"):
            engine.load("a:1", Cmd=[command])
            reconcile(reconciler)
        assert server.named("a:1")["status"] == "active"
        assert len(server.deleted) == 2

    def test_an_image_leaves_glance_with_its_tag(self, engine, server, reconciler):
        engine.load("a:1", "a:2")
        reconcile(reconciler)
        engine.remove_image("a:1")
        reconcile(reconciler)
        assert server.names == ["a:2"]
        engine.remove_image("a:2")
        reconcile(reconciler)
        assert server.names == []

    def test_images_of_nova_compute_are_not_listed(self, engine, server, reconciler):
        engine.load("nova-glance/8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd:latest")
        reconcile(reconciler)
        assert server.images == {} and engine.saved == []

    def test_other_images_in_glance_are_not_touched(self, engine, server, reconciler):
        engine.load("a:1")
        reconcile(reconciler)
        copied = {k: v for k, v in server.named("a:1").items() if k != "id"}
        server.add(**copied | {"name": "copy"})
        server.add(name="another", owner="another")
        before = {k: dict(v) for k, v in server.images.items()}
        reconciler.run(refresh=True)
        assert server.images == before
        engine.remove_image("a:1")
        reconciler.run(refresh=True)
        assert server.names == ["another", "copy"]

    def test_rules_decide_who_can_see_an_image(self, engine, server, start):
        engine.load("team/a:1", "a:scratch", "a:1")
        reconcile(start("team/* project:p1", "*:scratch hidden", default="private"))
        assert server.names == ["a:1", "team/a:1"]
        assert server.named("a:1")["visibility"] == "private"
        team = server.named("team/a:1")
        assert team["visibility"] == "shared"
        assert server.members[team["id"]] == {"p1": "accepted"}

    def test_new_rules_apply_after_a_restart(self, engine, server, start):
        engine.load("a:1", "b:1", "c:1")
        reconcile(start("a* project:p1", default="public"))
        before = ids(server)
        reconcile(start("a* project:p2", "b* hidden", default="community"))
        after = ids(server)
        assert after == {name: before[name] for name in ("a:1", "c:1")}
        assert server.members[after["a:1"]] == {"p2": "accepted"}
        assert server.named("c:1")["visibility"] == "community"

    def test_changes_in_glance_are_undone(self, engine, server, reconciler):
        engine.load("a:1", "b:1")
        reconcile(reconciler)
        before = ids(server)
        server.named("a:1").update(name="mine", protected=False)
        gone = server.named("b:1")["id"]
        del server.images[gone]
        server.deleted.add(gone)
        reconciler.run(refresh=True)
        reconciler.finish()
        assert server.names == ["a:1", "b:1"]
        assert server.named("a:1")["id"] == before["a:1"]
        assert server.named("a:1")["protected"]

    def test_a_restart_catches_up_and_keeps_ids(self, engine, server, start):
        engine.load("stays:1")
        engine.load("goes:1", Cmd=["goes"])
        reconcile(start())
        before = ids(server)
        engine.remove_image("goes:1")
        engine.load("comes:1", Cmd=["comes"])
        reconcile(start())
        assert server.names == ["comes:1", "stays:1"]
        assert ids(server)["stays:1"] == before["stays:1"]

    def test_a_restart_locates_images_without_a_location(self, engine, server, start):
        engine.load("a:1")
        first = start()
        server.fails = lambda method, path: 503 if "locations" in path else 0
        first.run()
        with pytest.raises(GatewayError):
            first.finish()
        assert server.named("a:1")["status"] == "queued"
        before = ids(server)
        server.fails = lambda method, path: 0
        reconcile(start())
        assert server.named("a:1")["status"] == "active"
        assert ids(server) == before


class TestFailures:
    def test_nothing_changes_while_the_engine_is_away(self, engine, server, reconciler):
        engine.load("a:1")
        reconcile(reconciler)
        engine.away = errors.Unreachable("gone")
        for refresh in (False, True):
            with pytest.raises(errors.Unreachable):
                reconciler.run(refresh=refresh)
        assert server.names == ["a:1"] and not server.deleted

    def test_it_catches_up_after_glance_was_away(self, engine, server, reconciler):
        engine.load("a:1", "a:2")
        server.fails = lambda method, path: 503
        with pytest.raises(GatewayError):
            reconciler.run()
        server.fails = lambda method, path: 0
        reconcile(reconciler)
        assert server.names == ["a:1", "a:2"]

    def test_one_images_failure_leaves_the_others_alone(
        self, engine, server, reconciler
    ):
        engine.load("a:1", "a:2", "a:3")
        refused = image_metadata.glance_id(
            "local", image_metadata.Key("a:2", engine.inspect_image("a:2")["Id"])
        )
        reconciler.run()
        reconciler.finish()
        engine.remove_image("a:1")
        engine.remove_image("a:2")
        server.fails = lambda method, path: 500 if refused in path else 0
        with pytest.raises(GatewayError):
            reconciler.run()
        assert server.names == ["a:2", "a:3"]
        server.fails = lambda method, path: 0
        reconciler.run()
        assert server.names == ["a:3"]

    def test_an_image_may_go_before_it_is_inspected(self, engine, server, reconciler):
        engine.load("a:1")
        engine.load("b:1", Cmd=["b"])
        engine.fail_next("inspect_image", errors.for_status(404, "No such image"))
        reconciler.run()
        assert len(server.names) == 1

    def test_an_image_may_go_before_it_is_measured(self, engine, server, reconciler):
        engine.load("a:1")
        engine.load("b:1", Cmd=["b"])
        engine.fail_next("save_image", errors.for_status(404, "No such image"))
        reconciler.run()
        with pytest.raises(errors.NotFound):
            reconciler.finish()
        assert sorted(i["status"] for i in server.images.values()) == [
            "active",
            "queued",
        ]
        reconcile(reconciler)
        assert {i["status"] for i in server.images.values()} == {"active"}

    def test_an_image_with_a_cut_export_is_left_out(self, engine, server, reconciler):
        engine.broken.add(engine.load("broken:1"))
        engine.load("right:1", Cmd=["right"])
        reconcile(reconciler)
        assert server.names == ["right:1"]
        assert server.named("right:1")["status"] == "active"
        # It is not tried again.
        server.calls.clear()
        engine.saved.clear()
        reconcile(reconciler)
        assert server.changes == engine.saved == []

    def test_an_image_queued_again_is_located_again(self, engine, server, reconciler):
        engine.load("a:1")
        server.importing = True
        reconcile(reconciler)
        assert not reconciler.settle()
        server.named("a:1")["status"] = "queued"
        assert not reconciler.settle()
        server.importing = False
        reconcile(reconciler)
        assert reconciler.settle()
        assert server.named("a:1")["status"] == "active"

    def test_an_active_image_is_not_asked_for_again(self, engine, server, reconciler):
        engine.load("a:1")
        server.importing = True
        reconcile(reconciler)
        server.named("a:1")["status"] = "active"
        assert reconciler.settle()
        server.calls.clear()
        assert reconciler.settle()
        assert server.calls == []
