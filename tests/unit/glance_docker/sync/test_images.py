# SPDX-License-Identifier: Apache-2.0
"""The images in Glance that represent an engine's tags."""

from __future__ import annotations

import pytest

from glance_docker import image_metadata
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.image_metadata import Key
from glance_docker.sync import images
from glance_docker.sync.access_rules import Access
from glance_docker.sync.images import EngineImages
from tests import glance

KEY = Key("debian:12", "sha256:" + "1" * 64)
ID = image_metadata.glance_id("local", KEY)
PUBLIC = Access("public")
URL = f"docker://local/debian:12?id={KEY.image_id}&size=5"
IMAGE = {"Architecture": "amd64", "Config": {"Cmd": ["sh"]}, "RepoDigests": []}


@pytest.fixture
def server():
    with glance.running() as server:
        yield server


def connect(server, engine="local", project=glance.PROJECT):
    return EngineImages(ImageGateway(server.adapter(project)), engine)


@pytest.fixture
def ours(server):
    return connect(server)


def make(ours, key=KEY, access=PUBLIC):
    return ours.create(key, access, IMAGE)


class TestFetch:
    def test_every_process_finds_the_images(self, server, ours):
        made = make(ours)
        assert ours.fetch() == {KEY: made}
        assert connect(server).fetch() == {KEY: made}
        assert connect(server, "other").fetch() == {}

    def test_images_with_copied_properties_are_left_out(self, server, ours):
        make(ours)
        original = {k: v for k, v in server.images[ID].items() if k != "id"}
        server.add(**original)
        server.add(**original, docker_serial="1")
        server.add(**original | {"docker_tag": "other:1"})
        assert [found.id for found in ours.fetch().values()] == [ID]

    def test_images_of_another_project_are_left_out(self, server, ours):
        make(connect(server, project="another"))
        assert server.images[ID]["owner"] == "another"
        assert ours.fetch() == {}

    def test_images_without_all_properties_are_left_out(self, server, ours):
        server.add(docker_engine="local")
        server.add(docker_engine="local", docker_tag=KEY.name)
        assert ours.fetch() == {}

    def test_it_reads_all_pages(self, server, ours):
        keys = [Key(f"a:{number}", KEY.image_id) for number in range(2001)]
        for key in keys:
            server.add(
                id=image_metadata.glance_id("local", key),
                **image_metadata.properties("local", key, IMAGE),
            )
        assert ours.fetch().keys() == set(keys)
        # One of them for the hidden images.
        assert server.calls == ["GET /v2/images"] * 4

    def test_hidden_images_are_included(self, server, ours):
        made = make(ours)
        server.images[ID]["os_hidden"] = True
        assert ours.fetch() == ours.fetch(["queued"]) == {KEY: made}

    def test_the_result_can_be_limited_to_statuses(self, server, ours):
        made = make(ours)
        ours.locate(make(ours, Key("b:1", KEY.image_id)), URL)
        assert ours.fetch(["queued", "importing"]) == {KEY: made}
        assert ours.fetch(["deactivated"]) == {}
        assert len(ours.fetch()) == 2


class TestCreate:
    def test_glance_describes_the_image(self, server, ours):
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

    def test_the_id_of_a_deleted_image_is_not_used_again(self, server, ours):
        ours.remove(make(ours))
        again = make(ours)
        assert again.id != ID
        serial = server.images[again.id]["docker_serial"]
        assert again.id == image_metadata.glance_id("local", KEY, serial)
        assert ours.fetch() == {KEY: again}

    def test_an_id_that_another_project_has_taken_is_not_used(self, server, ours):
        theirs = dict(server.add(id=ID, owner="another"))
        assert make(ours).id != ID
        assert server.images[ID] == theirs

    def test_it_gives_up_when_glance_rejects_all_ids(self, server, ours):
        server.fails = lambda method, path: 409 if method == "POST" else 0
        with pytest.raises(GatewayError, match=KEY.name):
            make(ours)
        assert server.calls.count("POST /v2/images") == 6
        # For each, it looks who owns the image.
        assert len(server.calls) == 12

    def test_an_image_that_another_process_has_just_created_is_used(self, server, ours):
        made = make(ours)
        assert make(connect(server)) == made
        assert list(server.images) == [ID]

    def test_a_long_name_is_shortened(self, server, ours):
        key = Key("x" * 300 + ":1", KEY.image_id)
        found = make(ours, key)
        assert len(found.name) == 255
        assert ours.fetch() == {key: found}


class TestLocate:
    def test_the_image_becomes_active(self, server, ours):
        ours.locate(make(ours), URL)
        assert server.locations[ID] == [URL]
        assert ours.fetch()[KEY].status == "active"

    def test_an_image_keeps_its_first_location(self, server, ours):
        found = make(ours)
        ours.locate(found, URL)
        ours.locate(found, URL)
        assert server.locations[ID] == [URL]


class TestCorrect:
    def test_it_restores_what_others_changed(self, server, ours):
        make(ours)
        server.images[ID] |= {
            "name": "mine",
            "protected": False,
            "visibility": "private",
        }
        found = ours.fetch()[KEY]
        ours.correct(found, KEY, PUBLIC)
        image = server.images[ID]
        assert (image["name"], image["protected"]) == (KEY.name, True)
        assert image["visibility"] == "public"
        assert ours.fetch() == {KEY: found}

    def test_a_correct_image_is_not_changed(self, server, ours):
        found = make(ours)
        server.calls.clear()
        ours.correct(found, KEY, PUBLIC)
        assert server.calls == []

    def test_a_shared_image_gets_exactly_the_members_of_its_rule(self, server, ours):
        found = make(ours, access=Access("shared", ("a", "b")))
        assert server.members[ID] == {"a": "accepted", "b": "accepted"}
        server.members[ID] = {"b": "rejected", "stranger": "accepted"}
        ours.correct(found, KEY, Access("shared", ("a", "b")))
        assert server.members[ID] == {"a": "accepted", "b": "accepted"}
        ours.correct(found, KEY, Access("shared", ("c",)))
        assert server.members[ID] == {"c": "accepted"}

    def test_an_image_can_become_shared_and_public_again(self, server, ours):
        found = make(ours)
        ours.correct(found, KEY, Access("shared", ("a",)))
        assert server.images[ID]["visibility"] == "shared"
        assert server.members[ID] == {"a": "accepted"}
        ours.correct(found, KEY, PUBLIC)
        assert server.images[ID]["visibility"] == "public"


class TestRemove:
    def test_a_protected_image_is_removed(self, server, ours):
        ours.remove(make(ours))
        assert server.images == {}

    def test_an_image_that_is_gone_is_no_error(self, server, ours):
        found = make(ours)
        server.images.clear()
        ours.remove(found)

    def test_an_image_that_goes_meanwhile_is_no_error(self, server, ours):
        found = make(ours)
        server.fails = lambda method, path: 404 if method == "DELETE" else 0
        ours.remove(found)


@pytest.mark.parametrize("answer", [None, [], {}, {"images": None}, {"images": [{}]}])
def test_a_malformed_response_raises_a_gateway_error(server, ours, answer):
    server.answer = lambda *call: (200, answer)
    with pytest.raises(GatewayError, match="Unexpected response from Glance"):
        ours.fetch()
    with pytest.raises(GatewayError, match="Unexpected response from Glance"):
        make(ours)


@pytest.mark.parametrize("status", [400, 401, 403, 413, 500, 503])
@pytest.mark.parametrize(
    "call",
    [
        lambda ours, image: ours.fetch(),
        lambda ours, image: make(ours, Key("b:1", KEY.image_id)),
        lambda ours, image: ours.locate(image, URL),
        lambda ours, image: ours.correct(image, KEY, Access("private")),
        lambda ours, image: ours.correct(image, KEY, Access("shared", ("a",))),
        lambda ours, image: ours.remove(image),
    ],
)
def test_a_failed_call_raises_a_gateway_error(server, ours, call, status):
    image = make(ours)
    server.fails = lambda method, path: status
    with pytest.raises(GatewayError, match=str(status)):
        call(ours, image)


def test_an_unreachable_glance_raises_a_gateway_error(server):
    server.server_close()
    with pytest.raises(GatewayError):
        connect(server).fetch()


def test_nobody_can_guess_the_serials():
    first, second = list(images._serials()), list(images._serials())
    assert first[0] == second[0] == ""
    assert not set(first[1:]) & set(second[1:])
