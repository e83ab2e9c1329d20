# SPDX-License-Identifier: Apache-2.0
"""nova-docker-image, with a Glance of a few lines."""

from __future__ import annotations

import hashlib
import json

import pytest
import requests
from openstack import exceptions

from docker_engine import errors
from docker_engine import registry as registries
from docker_engine.mock.client import MockDockerClient
from glance_docker import image_command
from glance_docker.image_command import CommandError
from tests import archives

NAME = "demo:latest"
ARCHIVE = archives.busybox_archive(tags=[NAME], config={"Cmd": ["sh"]})


class Glance:
    """Takes images as ``cloud.image`` does."""

    def __init__(self):
        self.images = {}
        self.refuses = {}  # status by the end of a path
        self.task = {"status": "success", "message": ""}

    def answer(self, path, content=None, status=200):
        found = requests.Response()
        refused = [s for end, s in self.refuses.items() if path.endswith(end)]
        found.status_code = refused[0] if refused else status
        found._content = json.dumps(content).encode()
        return found

    def post(self, path, json):
        if path == "/images":
            self.images["id"] = {**json, "status": "queued"}
            return self.answer(path, {"id": "id"}, 201)
        answer = self.answer(path, status=202)
        if answer.ok:
            self.images["id"]["url"] = json["url"]
            if self.task["status"] == "success":
                self.images["id"]["status"] = "active"
        return answer

    def put(self, path, data, headers):
        content = b"".join(data)
        self.images["id"] |= {"content": content, "status": "active"}
        return self.answer(path, status=204)

    def get(self, path):
        if path.endswith("/tasks"):
            return self.answer(path, {"tasks": [self.task]})
        return self.answer(path, {"status": self.images["id"]["status"]})

    def delete(self, path):
        del self.images[path.rpartition("/")[2]]


class Cloud:
    def __init__(self):
        self.image = Glance()


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def engine():
    client = MockDockerClient()
    client.load_image([ARCHIVE])
    return client


class TestPush:
    def test_an_image_is_uploaded_as_the_driver_wants_it(self, cloud, engine):
        assert image_command.push(cloud, engine, NAME, {"visibility": "public"}) == "id"
        image = cloud.image.images["id"]
        assert image["name"] == NAME
        assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
        assert image["visibility"] == "public"
        assert image["docker_cmd"] == '["sh"]'
        again = MockDockerClient()
        again.load_image([image["content"]])
        assert again.inspect_image(NAME)["Id"] == engine.inspect_image(NAME)["Id"]

    def test_an_image_without_a_name_is_known_by_its_id(self, cloud, engine):
        image_id = engine.load_image(
            [archives.busybox_archive(config={"Cmd": ["id"]})]
        )[0]["stream"].split()[-1]
        image_command.push(cloud, engine, image_id, {})
        assert cloud.image.images["id"]["name"] == image_id

    def test_what_the_user_says_counts(self, cloud, engine):
        image_command.push(cloud, engine, NAME, {"name": "mine", "docker_cmd": "other"})
        image = cloud.image.images["id"]
        assert (image["name"], image["docker_cmd"]) == ("mine", "other")

    def test_an_image_that_is_not_there(self, cloud, engine):
        with pytest.raises(CommandError, match="The engine has no image other:1"):
            image_command.push(cloud, engine, "other:1", {})
        assert not cloud.image.images

    def test_nothing_is_left_of_an_upload_that_glance_refuses(self, cloud, engine):
        cloud.image.refuses["/file"] = 413
        with pytest.raises(CommandError, match="413"):
            image_command.push(cloud, engine, NAME, {})
        assert not cloud.image.images

    def test_nothing_is_left_when_the_engine_goes_away(
        self, cloud, engine, monkeypatch
    ):
        def broken(ref):
            raise errors.Unreachable("gone")

        monkeypatch.setattr(engine, "save_image", broken)
        with pytest.raises(CommandError, match="The image cannot be read: gone"):
            image_command.push(cloud, engine, NAME, {})
        assert not cloud.image.images

    def test_glance_is_away(self, cloud, engine, monkeypatch):
        def away(path, json):
            raise exceptions.SDKException("no route")

        monkeypatch.setattr(cloud.image, "post", away)
        with pytest.raises(CommandError, match="Glance: no route"):
            image_command.push(cloud, engine, NAME, {})


CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}}
).encode()


class Registry:
    """Has one image, team/app:1."""

    host = "registry.example:5000"
    digest = f"sha256:{'a' * 64}"

    def resolve(self, repository, reference, architecture):
        if (repository, architecture) != ("team/app", "amd64"):
            raise registries.NotFound("there is none")
        assert reference in ("1", "latest", self.digest)
        digest = f"sha256:{hashlib.sha256(CONFIG).hexdigest()}"
        config = registries.Descriptor(digest, len(CONFIG), "")
        return registries.Image(repository, self.digest, config, ())

    def blob(self, repository, descriptor):
        yield CONFIG


class TestRegister:
    @pytest.mark.parametrize(
        "place", ["team/app:1", "team/app", f"team/app@{Registry.digest}"]
    )
    def test_glance_is_told_the_digest_and_given_nothing(self, cloud, place):
        assert image_command.register(cloud, Registry(), place, {}) == "id"
        image = cloud.image.images["id"]
        assert image[
            "url"
        ] == f"docker://registry.example:5000/team/app@{'sha256:'}" + ("a" * 64)
        assert image["name"] == f"registry.example:5000/{place}"
        assert image["architecture"] == "x86_64"
        assert "content" not in image

    def test_an_image_that_the_registry_has_not(self, cloud):
        with pytest.raises(CommandError, match="there is none"):
            image_command.register(cloud, Registry(), "team/other:1", {})
        assert not cloud.image.images

    @pytest.mark.parametrize(
        "config",
        [b"", b"[]", b'{"config": [1]}', b'{"created": 5}', b'{"architecture": []}'],
    )
    def test_an_image_that_says_nonsense_of_itself(self, cloud, config):
        registry = Registry()
        registry.blob = lambda repository, descriptor: [config]
        with pytest.raises(CommandError, match="configuration is malformed"):
            image_command.register(cloud, registry, "team/app:1", {})
        assert not cloud.image.images

    def test_a_user_without_the_role(self, cloud):
        cloud.image.refuses["/locations"] = 403
        with pytest.raises(CommandError, match="users with the role service alone"):
            image_command.register(cloud, Registry(), "team/app:1", {})
        assert not cloud.image.images

    def test_a_glance_that_knows_no_such_registry(self, cloud):
        cloud.image.task = {"status": "failure", "message": "Invalid location"}
        with pytest.raises(CommandError, match="Glance cannot use it: Invalid loc"):
            image_command.register(cloud, Registry(), "team/app:1", {})
        assert not cloud.image.images


@pytest.mark.parametrize(
    "words", [[], ["push"], ["pull", "a"], ["push", "--property", "x", "a"]]
)
def test_words_that_mean_nothing(words, capsys):
    with pytest.raises(SystemExit) as caught:
        image_command.main(words)
    assert caught.value.code == 2
    assert "usage: nova-docker-image" in capsys.readouterr().err


def test_a_cloud_that_nobody_knows():
    with pytest.raises(SystemExit) as caught:
        image_command.main(["--os-cloud", "elsewhere", "push", "a"])
    assert caught.value.code == ("nova-docker-image: Cloud elsewhere was not found.")
