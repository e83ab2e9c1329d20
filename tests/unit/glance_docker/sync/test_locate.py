# SPDX-License-Identifier: Apache-2.0
"""Images are measured on the engine, and get their locations."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from docker_engine import errors
from docker_engine import location
from docker_engine.archive import ArchiveError
from glance_docker.gateway import GatewayError
from glance_docker.image_metadata import Key
from glance_docker.slots import Slots
from glance_docker.sync.images import ListedImage
from glance_docker.sync.locate import Locator

TIMEOUT = 10  # seconds
WORKERS = 3


class Images:
    """Remembers locations; ``fails`` are the errors of the next calls."""

    def __init__(self):
        self.located = {}
        self.fails = []
        self.barrier = None

    def locate(self, image, url):
        if self.barrier:
            self.barrier.wait(TIMEOUT)
        if self.fails:
            raise self.fails.pop()
        self.located[image.name] = location.parse(url)


@pytest.fixture
def images():
    return Images()


@pytest.fixture
def locator(engine, images):
    with ThreadPoolExecutor(WORKERS) as callers:
        locator = Locator(engine, images, "local", callers, Slots(None, "local", 4))
        yield locator
        locator.close()


def queued(name):
    return ListedImage("id", "queued", name, "public", True)


def locate(locator, image_id, *names, digest=None):
    images = [queued(name) for name in names]
    for image in images:
        locator.start(Key(image.name, image_id), image, digest)
    locator.wait()
    return images


def test_an_image_with_several_tags_is_measured_once(engine, locator, images):
    image_id = engine.load("a:1", "a:2")
    found = locate(locator, image_id, "a:1", "a:2")
    locate(locator, image_id, "a:3")
    assert engine.saved == [image_id]
    assert images.located.keys() == {"a:1", "a:2", "a:3"}
    assert {image.status for image in found} == {"importing"}
    assert not locator.busy


def test_a_location_has_the_digest_in_a_registry(engine, locator, images):
    digest = f"a@sha256:{'1' * 64}"
    locate(locator, engine.load("a:1"), "a:1", digest=digest)
    assert images.located["a:1"].digest == digest


@pytest.mark.parametrize("name", ["UPPER:1", "x" * 3000 + ":1"])
def test_a_name_that_no_location_can_contain_is_unusable(engine, locator, name):
    image_id = engine.load("a:1")
    [image] = locate(locator, image_id, name)
    assert locator.unusable == {Key(name, image_id)}
    assert image.status == "queued"


def test_an_image_that_cannot_be_run_is_unusable(engine, locator, monkeypatch):
    def broken(ref):
        raise ArchiveError("it has no layers")

    monkeypatch.setattr(engine, "save_image", broken)
    image_id = engine.load("a:1")
    locate(locator, image_id, "a:1")
    assert locator.unusable == {Key("a:1", image_id)}
    locator.retain([])
    assert not locator.unusable


def test_a_failure_waits_for_all_and_is_tried_again(engine, locator, images):
    image_id = engine.load("a:1", "a:2")
    images.fails = [GatewayError("away")]
    with pytest.raises(GatewayError, match="away"):
        locate(locator, image_id, "a:1", "a:2")
    assert len(images.located) == 1 and not locator.busy
    locate(locator, image_id, "a:1", "a:2")
    assert images.located.keys() == {"a:1", "a:2"}
    assert engine.saved == [image_id]


def test_an_image_that_could_not_be_read_is_read_again(engine, locator, images):
    image_id = engine.load("a:1")
    engine.fail_next("save_image", errors.Unreachable("gone"))
    with pytest.raises(errors.Unreachable):
        locate(locator, image_id, "a:1")
    locate(locator, image_id, "a:1")
    assert images.located.keys() == {"a:1"}


def test_an_image_that_is_being_located_is_not_started_again(engine, locator, images):
    images.barrier = threading.Barrier(2)
    image_id = engine.load("a:1")
    for _ in range(2):
        locator.start(Key("a:1", image_id), queued("a:1"), None)
    assert locator.busy
    images.barrier.wait(TIMEOUT)
    locator.wait()
    assert not locator.busy


def test_locations_are_added_by_all_workers(engine, locator, images):
    images.barrier = threading.Barrier(WORKERS)
    names = [f"a:{number}" for number in range(WORKERS)]
    locate(locator, engine.load(*names), *names)
    assert images.located.keys() == set(names)


def test_a_tag_that_went_is_no_failure_any_more(engine, locator, images):
    images.fails = [GatewayError("away")]
    with pytest.raises(GatewayError):
        locate(locator, engine.load("a:1"), "a:1")
    locator.retain([])
    locator.wait()
