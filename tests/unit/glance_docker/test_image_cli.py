# SPDX-License-Identifier: Apache-2.0
"""The command nova-docker-image."""

from __future__ import annotations

import hashlib
import json

import openstack.config
import pytest
from keystoneauth1 import access
from keystoneauth1 import fixture
from keystoneauth1 import noauth
from keystoneauth1 import session
from keystoneauth1.exceptions import DiscoveryFailure
from keystoneauth1.exceptions import EndpointNotFound
from keystoneauth1.identity.access import AccessInfoPlugin
from openstack.config import cloud_region

from docker_engine import errors
from docker_engine import registry as registries
from docker_engine.mock.client import MockDockerClient
from glance_docker import image_cli
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.image_cli import CommandError
from tests import archives

NAME = "demo:latest"
ARCHIVE = archives.busybox_archive(tags=[NAME], config={"Cmd": ["sh"]})


@pytest.fixture
def engine():
    client = MockDockerClient()
    client.load_image([ARCHIVE])
    return client


class TestPush:
    def test_an_image_is_uploaded_in_dockers_format(self, server, gateway, engine):
        values = {"visibility": "public"}
        image_id = image_cli.push(gateway, engine, NAME, values)
        image = server.images[image_id]
        assert image["name"] == NAME
        assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
        assert image["visibility"] == "public"
        assert image["docker_cmd"] == '["sh"]'
        assert image["status"] == "active"
        again = MockDockerClient()
        again.load_image([server.data[image_id]])
        assert again.inspect_image(NAME)["Id"] == engine.inspect_image(NAME)["Id"]

    def test_an_image_without_a_tag_is_named_by_its_id(self, server, gateway, engine):
        engine_id = engine.load_image(
            [archives.busybox_archive(config={"Cmd": ["id"]})]
        )[0]["stream"].split()[-1]
        image_id = image_cli.push(gateway, engine, engine_id, {})
        assert server.images[image_id]["name"] == engine_id

    @pytest.mark.parametrize("own", ["nova-glance/1:latest", "nova-snapshot/1:latest"])
    def test_an_image_gets_its_name_and_not_that_of_a_server(
        self, server, gateway, engine, own
    ):
        engine.tag_image(NAME, *own.split(":"))
        engine.tag_image(NAME, "z", "1")
        named = image_cli.push(gateway, engine, "demo", {})
        assert server.images[named]["name"] == NAME
        engine.remove_image(NAME)
        by_id = image_cli.push(gateway, engine, engine.inspect_image(own)["Id"], {})
        assert server.images[by_id]["name"] == "z:1"

    def test_the_users_values_take_precedence(self, server, gateway, engine):
        values = {"name": "mine", "docker_cmd": "other"}
        image_id = image_cli.push(gateway, engine, NAME, values)
        image = server.images[image_id]
        assert (image["name"], image["docker_cmd"]) == ("mine", "other")

    def test_a_missing_image_is_reported(self, server, gateway, engine):
        with pytest.raises(CommandError, match="the engine has no image other:1"):
            image_cli.push(gateway, engine, "other:1", {})
        assert not server.images

    def test_nothing_is_left_of_a_rejected_upload(self, server, gateway, engine):
        server.fails = lambda method, path: 413 if path.endswith("/file") else 0
        with pytest.raises(CommandError, match="413"):
            image_cli.push(gateway, engine, NAME, {})
        assert not server.images

    def test_nothing_is_left_when_the_engine_goes_away(
        self, server, gateway, engine, monkeypatch
    ):
        def broken(ref):
            raise errors.Unreachable("gone")

        monkeypatch.setattr(engine, "save_image", broken)
        with pytest.raises(CommandError, match="Cannot read the image: gone"):
            image_cli.push(gateway, engine, NAME, {})
        assert not server.images

    def test_nothing_is_left_when_the_user_interrupts(
        self, server, gateway, engine, monkeypatch
    ):
        def interrupted(image_id, chunks):
            next(iter(chunks))
            raise KeyboardInterrupt

        monkeypatch.setattr(gateway, "upload", interrupted)
        with pytest.raises(KeyboardInterrupt):
            image_cli.push(gateway, engine, NAME, {})
        assert not server.images and server.deleted

    def test_what_cannot_be_deleted_is_reported(self, server, gateway, engine, capsys):
        def fails(method, path):
            return {"PUT": 413, "DELETE": 503}.get(method, 0)

        server.fails = fails
        with pytest.raises(CommandError, match="413"):
            image_cli.push(gateway, engine, NAME, {})
        [image_id] = server.images
        assert f"incomplete image {image_id}" in capsys.readouterr().err

    def test_an_unreachable_glance_is_reported(self, server, gateway, engine):
        server.server_close()
        with pytest.raises(CommandError, match="Glance: Unable to establish"):
            image_cli.push(gateway, engine, NAME, {})

    @pytest.mark.parametrize("answer", [None, [], {}])
    def test_a_malformed_response_is_reported(self, server, gateway, engine, answer):
        server.answer = lambda *request: (200, answer)
        with pytest.raises(CommandError, match="Unexpected response from Glance"):
            image_cli.push(gateway, engine, NAME, {})


CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}}
).encode()


class Registry:
    """A registry with one image, team/app:1."""

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
    def test_glance_gets_the_digest_and_no_data(self, server, gateway, place):
        image_id = image_cli.register(gateway, Registry(), place, {})
        image = server.images[image_id]
        url = f"docker://registry.example:5000/team/app@sha256:{'a' * 64}"
        assert server.locations[image_id] == [url]
        assert image["name"] == f"registry.example:5000/{place}"
        assert image["architecture"] == "x86_64"
        assert image["status"] == "active"
        assert not server.data

    def test_an_image_that_the_registry_does_not_have(self, server, gateway):
        with pytest.raises(CommandError, match="there is none"):
            image_cli.register(gateway, Registry(), "team/other:1", {})
        assert not server.images

    @pytest.mark.parametrize(
        "config",
        [b"", b"[]", b'{"config": [1]}', b'{"created": 5}', b'{"architecture": []}'],
    )
    def test_a_malformed_configuration_is_reported(self, server, gateway, config):
        registry = Registry()
        registry.blob = lambda repository, descriptor: [config]
        with pytest.raises(CommandError, match="configuration is malformed"):
            image_cli.register(gateway, registry, "team/app:1", {})
        assert not server.images

    def test_a_user_without_the_role_service_is_told(self, server, gateway):
        server.fails = lambda method, path: 403 if "locations" in path else 0
        with pytest.raises(CommandError, match="only from users with the role service"):
            image_cli.register(gateway, Registry(), "team/app:1", {})
        assert not server.images

    def test_a_glance_without_a_store_for_the_registry(self, server, gateway):
        server.rejects = "Invalid location"
        with pytest.raises(CommandError, match="rejected the location: Invalid loc"):
            image_cli.register(gateway, Registry(), "team/app:1", {})
        assert not server.images


@pytest.mark.parametrize(
    "words", [[], ["push"], ["pull", "a"], ["push", "--property", "x", "a"]]
)
def test_invalid_arguments_print_the_usage(words, capsys):
    with pytest.raises(SystemExit) as caught:
        image_cli.main(words)
    assert caught.value.code == 2
    assert "usage: nova-docker-image" in capsys.readouterr().err


def test_an_unknown_cloud_is_reported():
    with pytest.raises(SystemExit) as caught:
        image_cli.main(["--os-cloud", "elsewhere", "push", "a"])
    assert caught.value.code == ("nova-docker-image: Cloud elsewhere was not found.")


def configured(server, version="v2.17", **config):
    """Return openstacksdk's configuration of a cloud with this Glance."""
    answer = server.answer

    def with_versions(method, url, project, body):
        if url in ("", "/"):
            links = [{"rel": "self", "href": f"{server.url}/{version[:2]}/"}]
            found = {"id": version, "status": "CURRENT", "links": links}
            return 300, {"versions": [found]}
        return answer(method, url, project, body)

    server.answer = with_versions
    token = fixture.V3Token()
    token.set_project_scope()
    catalog = token.add_service("image")
    catalog.add_standard_endpoints(public=server.url, region="one")
    catalog.add_standard_endpoints(public="http://127.0.0.1:1", region="two")
    auth = AccessInfoPlugin(access.AccessInfoV3(token, "token"))
    return cloud_region.CloudRegion(
        "test",
        config={"region_name": "one", "auth_type": "token", **config},
        session=session.Session(auth=auth),
    )


class TestGlance:
    @pytest.mark.parametrize("override", [None, "", "/", "/v2", "/v2/"])
    @pytest.mark.parametrize("version", [None, "2"])
    def test_it_is_found_at_version_2(self, server, override, version):
        config = {"image_api_version": version} if version else {}
        if override is not None:
            config["image_endpoint_override"] = server.url + override
            config["region_name"] = "two"  # its endpoint is not used
        cloud = configured(server, **config)
        server.add(name="app")
        gateway = ImageGateway(image_cli._glance(cloud))
        assert [image["name"] for image in gateway.images({})] == ["app"]

    def test_it_has_only_version_1(self, server):
        with pytest.raises(DiscoveryFailure, match="2"):
            image_cli._glance(configured(server, version="v1.1"))

    def test_it_is_not_configured(self, server):
        cloud = configured(server)
        cloud.get_session().auth = noauth.NoAuth()
        with pytest.raises(CommandError, match="no image endpoint"):
            image_cli._glance(cloud)

    def test_it_is_unreachable(self, server):
        cloud = configured(server, region_name="two")
        gateway = ImageGateway(image_cli._glance(cloud))
        with pytest.raises(GatewayError, match="Unable to establish connection"):
            gateway.show("id")

    def test_it_is_not_in_the_catalog(self, server):
        with pytest.raises(EndpointNotFound, match="image service in three region"):
            image_cli._glance(configured(server, region_name="three"))


class TestMain:
    @pytest.fixture(autouse=True)
    def _cloud(self, server, engine, monkeypatch):
        cloud = configured(server)
        clouds = openstack.config.OpenStackConfig
        monkeypatch.setattr(clouds, "get_one", lambda self, **values: cloud)
        monkeypatch.setattr(image_cli, "DockerClient", lambda host: engine)

    def test_it_prints_the_id(self, server, capsys):
        arguments = ["--name", "mine", "--property", "a=b=c", "--community", NAME]
        image_cli.main(["push", *arguments])
        [image] = server.images.values()
        assert capsys.readouterr().out == f"{image['id']}\n"
        assert (image["name"], image["a"]) == ("mine", "b=c")
        assert image["visibility"] == "community"

    def test_it_fails_with_a_message(self, server):
        server.fails = lambda method, path: 403
        with pytest.raises(SystemExit) as caught:
            image_cli.main(["push", NAME])
        assert str(caught.value.code).startswith("nova-docker-image: Glance: Forbidden")

    def test_a_reference_without_a_registry_is_reported(self):
        with pytest.raises(SystemExit) as caught:
            image_cli.main(["register", "app"])
        assert "app names no registry" in str(caught.value.code)
