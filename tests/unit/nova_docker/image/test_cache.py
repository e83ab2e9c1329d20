# SPDX-License-Identifier: Apache-2.0
"""Removal of unused images from the engine."""

from __future__ import annotations

import pytest
from nova import exception

from docker_engine import errors
from docker_engine.mock.client import MockDockerClient
from nova_docker.image import store
from nova_docker.image.cache import CONF
from nova_docker.image.cache import ImageCache
from tests import archives
from tests import samples

DAY = 24 * 3600


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def client():
    return MockDockerClient()


@pytest.fixture
def cache(client, clock):
    return ImageCache(client)


@pytest.fixture
def image(client):
    """Loads an image with a new Glance ID into the engine."""

    def load(*names):
        image_id = samples.uuid()
        config = {"Env": [f"ID={image_id}"]}
        tags = [store.tag_of(image_id), *names]
        client.load_image([archives.busybox_archive(config=config, tags=tags)])
        return image_id

    return load


def test_an_image_is_removed_after_a_day_without_use(cache, client, clock, image):
    unused, used = image(), image()
    server = samples.instance(image_ref=used)
    cache.prune([server])
    clock.now += DAY - 1
    cache.prune([server])
    assert set(store.image_ids(client)) == {unused, used}
    clock.now += 1
    cache.prune([server])
    assert store.image_ids(client) == [used]


def test_the_day_begins_when_the_last_server_is_deleted(cache, client, clock, image):
    image_id = image()
    cache.prune([])
    clock.now += DAY - 1
    cache.prune([samples.instance(image_ref=image_id)])
    clock.now += DAY
    cache.prune([])
    assert store.image_ids(client) == [image_id]


def test_a_request_for_an_image_restarts_its_day(cache, client, clock, image):
    image_id = image()
    cache.prune([])
    clock.now += DAY
    cache.touch(image_id)
    cache.prune([])
    assert store.image_ids(client) == [image_id]


def test_images_and_tags_of_others_stay(cache, client, clock, image):
    image("shared:1")
    client.load_image([archives.busybox_archive(tags=["theirs:1"])])
    cache.prune([])
    clock.now += DAY
    cache.prune([])
    assert store.image_ids(client) == []
    assert client.inspect_image("shared:1") and client.inspect_image("theirs:1")


def test_an_image_that_a_container_uses_stays(cache, client, clock, image):
    image_id = image()
    client.create_container("any", {"Image": store.tag_of(image_id)})
    cache.prune([])
    clock.now += DAY
    cache.prune([])
    assert store.image_ids(client) == [image_id]


def test_nothing_is_removed_if_the_option_is_off(
    cache, client, clock, image, monkeypatch
):
    monkeypatch.setattr(CONF.image_cache, "remove_unused_base_images", False, False)
    image_id = image()
    cache.prune([])
    clock.now += DAY
    cache.prune([])
    assert store.image_ids(client) == [image_id]


def test_an_unreachable_engine_is_a_nova_error(cache, client):
    client.fail_next("list_images", errors.Unreachable("gone"))
    with pytest.raises(exception.NovaException, match="gone"):
        cache.prune([])
