# SPDX-License-Identifier: Apache-2.0
"""Images whose Glance location is on a real engine or in a real registry."""

from __future__ import annotations

import json
import pathlib
import random

import pytest
from nova import exception

from docker_engine import location
from nova_docker.image.store import tag_of
from tests import archives
from tests import samples
from tests.functional.image_files import assert_back_to
from tests.functional.image_files import at_rest
from tests.functional.image_files import store_of
from tests.functional.registry_server import RegistryServer

REPOSITORY = "team/app"


class Locations:
    """The location of each image, without a Glance."""

    def __init__(self):
        self.places = {}

    def of(self, image_id):
        return [place] if (place := self.places.get(image_id)) else []


@pytest.fixture(scope="module")
def registry():
    with RegistryServer() as server:
        yield server


@pytest.fixture
def trusted(registry):
    """Makes the engine trust the registry's certificate."""
    directory = pathlib.Path("/etc/docker/certs.d", registry.host)
    directory.mkdir(parents=True)
    authority = directory / "ca.crt"
    authority.write_bytes(pathlib.Path(registry.ca_file).read_bytes())
    yield
    authority.unlink()
    directory.rmdir()


@pytest.fixture
def auth_file(registry, tmp_path, configure, configuration):
    path = tmp_path / "config.json"
    registry.write_auth_file(path)
    configure("registry_auth_file", str(path))
    return path


@pytest.fixture
def locations():
    return Locations()


@pytest.fixture
def store(engine, glance, locations, images):
    return store_of(engine, glance, locations)


def new_image():
    """Return the configuration and layers of an image that no engine has."""
    parts = archives.members(
        archives.busybox_archive(files={"serial": samples.uuid().encode()})
    )
    [manifest] = json.loads(parts["manifest.json"])
    return parts[manifest["Config"]], [parts[name] for name in manifest["Layers"]]


def push(registry, config, layers):
    digest = registry.push(REPOSITORY, "1", config, layers)
    return location.RegistryImage(registry.host, REPOSITORY, digest)


def blobs(registry, since):
    return [line for line in registry.requests[since:] if "/blobs/" in line]


def ensure(store, image_id, flavor=None):
    meta = samples.image_meta(id=image_id)
    return store.ensure(samples.request_context(), meta, flavor)["Id"]


def test_an_image_of_the_engine_is_used_without_a_download(
    engine, glance, store, locations
):
    archive = archives.busybox_archive(
        files={"serial": samples.uuid().encode()}, tags=["team/app:here"]
    )
    engine.client.load_image([archive])
    found = engine.client.inspect_image("team/app:here")
    image_id = samples.uuid()
    locations.places[image_id] = location.EngineImage(
        "elsewhere", "team/app:here", found["Id"], 1
    )
    assert ensure(store, image_id) == found["Id"]
    assert not glance.downloads
    tags = engine.client.inspect_image(found["Id"])["RepoTags"]
    assert set(tags) == {"team/app:here", tag_of(image_id)}


def test_an_image_of_a_registry_is_pulled_once_by_its_digest(
    engine, glance, store, locations, registry, trusted, auth_file
):
    config, layers = new_image()
    image_id = samples.uuid()
    locations.places[image_id] = push(registry, config, layers)
    before = len(registry.requests)
    made = ensure(store, image_id)
    assert len(blobs(registry, before)) == 1 + len(layers)
    assert not glance.downloads
    found = engine.client.inspect_image(made)
    assert found["RepoTags"] == [tag_of(image_id)]
    assert not found["RepoDigests"]
    before = len(registry.requests)
    assert ensure(store, image_id) == made
    assert len(registry.requests) == before


def test_a_layer_that_the_engine_has_is_not_pulled_again(
    store, locations, registry, trusted, auth_file
):
    config, layers = new_image()
    first, second = samples.uuid(), samples.uuid()
    locations.places[first] = push(registry, config, layers)
    ensure(store, first)
    other = json.loads(config)
    other["config"] = {"Cmd": ["id"]}
    locations.places[second] = push(registry, json.dumps(other).encode(), layers)
    before = len(registry.requests)
    ensure(store, second)
    assert len(blobs(registry, before)) == 1  # the configuration


def test_an_image_of_another_engine_is_pulled_if_a_registry_has_it(
    glance, store, locations, registry, trusted, auth_file
):
    place = push(registry, *new_image())
    image_id = samples.uuid()
    locations.places[image_id] = location.EngineImage(
        "elsewhere", "team/app:1", f"sha256:{'0' * 64}", 1, place.reference
    )
    ensure(store, image_id)
    assert not glance.downloads


@pytest.mark.parametrize("wrong", ["password", "authority"])
def test_an_image_that_cannot_be_pulled_is_downloaded_from_glance(
    glance, store, locations, registry, configure, configuration, request, wrong
):
    """A registry whose certificate is not trusted receives no password either."""
    if wrong == "password":
        request.getfixturevalue("trusted")
    else:
        request.getfixturevalue("auth_file")
    image_id = samples.uuid()
    config, layers = new_image()
    locations.places[image_id] = push(registry, config, layers)
    glance.archives[image_id] = archives.busybox_archive()
    before = len(registry.requests)
    ensure(store, image_id)
    assert glance.downloads == [image_id]
    assert not blobs(registry, before)
    if wrong == "authority":
        assert not registry.requests[before:]


@pytest.fixture
def little(monkeypatch):
    """A root disk of a flavor that is 1 MiB for each GB."""
    monkeypatch.setattr("nova_docker.image.store.units.Gi", 2**20)
    return samples.flavor(root_gb=3)


def test_a_pulled_image_that_does_not_fit_leaves_nothing(
    engine, store, locations, registry, trusted, auth_file, little
):
    config, layers = new_image()
    layers.append(archives.tar({"zeros": bytes(3 * 2**20)}))
    image_id = samples.uuid()
    locations.places[image_id] = push(
        registry, *archives.with_layers(config, layers, compress=True)
    )
    before = at_rest(engine)
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        ensure(store, image_id, little)
    assert_back_to(engine, before)
    assert ensure(store, image_id)


def test_an_image_whose_layers_are_larger_than_the_disk_is_not_pulled(
    engine, store, locations, registry, trusted, auth_file, little
):
    config, layers = new_image()
    layers.append(archives.tar({"random": random.randbytes(3 * 2**20)}))
    image_id = samples.uuid()
    locations.places[image_id] = push(
        registry, *archives.with_layers(config, layers, compress=True)
    )
    before = at_rest(engine)
    sent = len(registry.requests)
    with pytest.raises(exception.FlavorDiskSmallerThanImage):
        ensure(store, image_id, little)
    assert not blobs(registry, sent)
    assert_back_to(engine, before)


def test_a_failed_pull_leaves_nothing(
    engine, glance, store, locations, registry, trusted, auth_file
):
    """The first layers are complete when the last turns out to be damaged."""
    config, layers = new_image()
    layers.append(archives.tar({"a": b"", "a/b": b""}))
    image_id = samples.uuid()
    locations.places[image_id] = push(registry, *archives.with_layers(config, layers))
    glance.archives[image_id] = b"nothing either"
    before = at_rest(engine)
    with pytest.raises(exception.ImageUnacceptable, match="not a tar archive"):
        ensure(store, image_id)
    assert_back_to(engine, before)
