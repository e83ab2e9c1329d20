# SPDX-License-Identifier: Apache-2.0
"""The images in Glance that are an engine's, and nobody else's."""

from __future__ import annotations

import pytest

from glance_docker import gateway
from glance_docker import listing
from glance_docker.gateway import Catalog
from glance_docker.gateway import CatalogError
from glance_docker.listing import Access
from glance_docker.listing import Key
from tests import glance

KEY = Key("debian:12", "sha256:" + "1" * 64)
ID = listing.glance_id("local", KEY)
PUBLIC = Access("public")
URL = f"docker://local/debian:12?id={KEY.image_id}&size=5"
IMAGE = {"Architecture": "amd64", "Config": {"Cmd": ["sh"]}, "RepoDigests": []}


@pytest.fixture
def server():
    with glance.running() as server:
        yield server


@pytest.fixture
def ours(server):
    return Catalog(server.adapter(), "local")


def make(ours, key=KEY, access=PUBLIC):
    return ours.create(key, access, IMAGE)


class TestImages:
    def test_what_is_made_is_found_by_any_process(self, server, ours):
        made = make(ours)
        assert ours.images() == {KEY: made}
        assert Catalog(server.adapter(), "local").images() == {KEY: made}
        assert Catalog(server.adapter(), "other").images() == {}

    def test_a_copy_of_what_is_written_on_it_is_not_one(self, server, ours):
        make(ours)
        original = {k: v for k, v in server.images[ID].items() if k != "id"}
        server.add(**original)
        server.add(**original, docker_serial="1")
        server.add(**original | {"docker_tag": "other:1"})
        assert [found.id for found in ours.images().values()] == [ID]

    def test_another_owners_is_not_one(self, server, ours):
        make(Catalog(server.adapter("another"), "local"))
        assert server.images[ID]["owner"] == "another"
        assert ours.images() == {}

    def test_an_image_without_our_properties(self, server, ours):
        server.add(docker_engine="local")
        server.add(docker_engine="local", docker_tag=KEY.name)
        assert ours.images() == {}

    def test_there_may_be_more_than_fit_on_a_page(self, server, ours):
        keys = [Key(f"a:{number}", KEY.image_id) for number in range(2001)]
        for key in keys:
            server.add(
                id=listing.glance_id("local", key),
                **listing.properties("local", key, IMAGE),
            )
        assert ours.images().keys() == set(keys)
        # And one for those that are hidden.
        assert server.calls == ["GET /v2/images"] * 4

    def test_one_that_somebody_has_hidden(self, server, ours):
        made = make(ours)
        server.images[ID]["os_hidden"] = True
        assert ours.images() == ours.images(["queued"]) == {KEY: made}

    def test_those_of_some_statuses(self, server, ours):
        made = make(ours)
        ours.locate(make(ours, Key("b:1", KEY.image_id)), URL)
        assert ours.images(["queued", "importing"]) == {KEY: made}
        assert ours.images(["deactivated"]) == {}
        assert len(ours.images()) == 2


class TestCreate:
    def test_what_glance_says_of_it(self, server, ours):
        assert make(ours).id == ID
        assert server.images[ID] == {
            "id": ID,
            "owner": glance.PROJECT,
            "name": "debian:12",
            "status": "queued",
            "container_format": "docker",
            "disk_format": "raw",
            "visibility": "public",
            "protected": True,
            "os_hidden": False,
            "architecture": "x86_64",
            "docker_engine": "local",
            "docker_tag": "debian:12",
            "docker_image_id": KEY.image_id,
            "docker_cmd": '["sh"]',
        }

    def test_an_id_that_was_deleted_is_not_had_again(self, server, ours):
        ours.remove(make(ours))
        again = make(ours)
        assert again.id != ID
        serial = server.images[again.id]["docker_serial"]
        assert again.id == listing.glance_id("local", KEY, serial)
        assert ours.images() == {KEY: again}

    def test_an_id_that_somebody_else_has_taken(self, server, ours):
        theirs = dict(server.add(id=ID, owner="another"))
        assert make(ours).id != ID
        assert server.images[ID] == theirs

    def test_it_ends_when_glance_takes_no_id(self, server, ours):
        server.fails = lambda method, path: 409 if method == "POST" else 0
        with pytest.raises(CatalogError, match=KEY.name):
            make(ours)
        assert server.calls.count("POST /v2/images") == 6
        # And whose each is.
        assert len(server.calls) == 12

    def test_another_process_has_just_made_it(self, server, ours):
        made = make(ours)
        assert make(Catalog(server.adapter(), "local")) == made
        assert list(server.images) == [ID]

    def test_a_long_name(self, server, ours):
        key = Key("x" * 300 + ":1", KEY.image_id)
        found = make(ours, key)
        assert len(found.name) == 255
        assert ours.images() == {key: found}


class TestLocate:
    def test_it_is_active_then(self, server, ours):
        ours.locate(make(ours), URL)
        assert server.locations[ID] == [URL]
        assert ours.images()[KEY].status == "active"

    def test_one_location_is_enough(self, server, ours):
        found = make(ours)
        ours.locate(found, URL)
        ours.locate(found, URL)
        assert server.locations[ID] == [URL]


class TestCorrect:
    def test_what_was_changed_is_put_right(self, server, ours):
        make(ours)
        server.images[ID] |= {
            "name": "mine",
            "protected": False,
            "visibility": "private",
        }
        found = ours.images()[KEY]
        ours.correct(found, KEY, PUBLIC)
        image = server.images[ID]
        assert (image["name"], image["protected"]) == (KEY.name, True)
        assert image["visibility"] == "public"
        assert ours.images() == {KEY: found}

    def test_what_is_right_is_left_alone(self, server, ours):
        found = make(ours)
        server.calls.clear()
        ours.correct(found, KEY, PUBLIC)
        assert server.calls == []

    def test_a_shared_image_has_the_rules_members(self, server, ours):
        found = make(ours, access=Access("shared", ("a", "b")))
        assert server.members[ID] == {"a": "accepted", "b": "accepted"}
        server.members[ID] = {"b": "rejected", "stranger": "accepted"}
        ours.correct(found, KEY, Access("shared", ("a", "b")))
        assert server.members[ID] == {"a": "accepted", "b": "accepted"}
        ours.correct(found, KEY, Access("shared", ("c",)))
        assert server.members[ID] == {"c": "accepted"}

    def test_an_image_may_become_shared_and_public_again(self, server, ours):
        found = make(ours)
        ours.correct(found, KEY, Access("shared", ("a",)))
        assert server.images[ID]["visibility"] == "shared"
        assert server.members[ID] == {"a": "accepted"}
        ours.correct(found, KEY, PUBLIC)
        assert server.images[ID]["visibility"] == "public"


class TestRemove:
    def test_a_protected_image(self, server, ours):
        ours.remove(make(ours))
        assert server.images == {}

    def test_one_that_is_gone_is_no_error(self, server, ours):
        found = make(ours)
        server.images.clear()
        ours.remove(found)

    def test_one_that_goes_meanwhile_is_no_error(self, server, ours):
        found = make(ours)
        server.fails = lambda method, path: 404 if method == "DELETE" else 0
        ours.remove(found)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 500, 503])
@pytest.mark.parametrize(
    "call",
    [
        lambda ours, found: ours.images(),
        lambda ours, found: make(ours, Key("b:1", KEY.image_id)),
        lambda ours, found: ours.locate(found, URL),
        lambda ours, found: ours.correct(found, KEY, Access("private")),
        lambda ours, found: ours.correct(found, KEY, Access("shared", ("a",))),
        lambda ours, found: ours.remove(found),
    ],
)
def test_what_glance_refuses_is_one_error(server, ours, call, status):
    found = make(ours)
    server.fails = lambda method, path: status
    with pytest.raises(CatalogError, match=str(status)):
        call(ours, found)


def test_a_glance_that_is_not_there_is_the_same_error(server, ours):
    server.server_close()
    away = server.adapter()
    with pytest.raises(CatalogError):
        Catalog(away, "local").images()


@pytest.mark.parametrize("answer", [None, [], {}, {"images": None}, {"images": [{}]}])
def test_what_glance_does_not_answer_is_the_same_error(server, ours, answer):
    server.answer = lambda *call: (200, answer)
    with pytest.raises(CatalogError):
        ours.images()
    with pytest.raises(CatalogError):
        make(ours)


def test_serials_are_of_no_use_to_who_guesses():
    first, second = list(gateway._serials()), list(gateway._serials())
    assert first[0] == second[0] == ""
    assert not set(first[1:]) & set(second[1:])
