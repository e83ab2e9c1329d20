# SPDX-License-Identifier: Apache-2.0
"""Where Glance says that an image is, and what of it counts."""

from __future__ import annotations

import pytest
from keystoneauth1 import exceptions
from keystoneauth1 import loading
from nova import utils

from docker_engine import location
from nova_docker.image.locations import ImageLocations
from tests import glance

IMAGE_ID = "8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd"
DIGEST = "sha256:" + "1" * 64
ENGINE = f"docker://local/debian:12?id={DIGEST}&size=5"
REGISTRY = f"docker://ghcr.io/team/app@{DIGEST}"


@pytest.fixture
def server(monkeypatch):
    with glance.running() as server:
        server.add(id=IMAGE_ID)
        monkeypatch.setattr(
            loading, "load_auth_from_conf_options", lambda conf, group: group
        )

        def adapter(service, ksa_auth, **versions):
            assert (service, ksa_auth) == ("image", "service_user")
            found = server.adapter()
            # As Nova's: an answer that is an error is one to look at.
            found.raise_exc = False
            return found

        monkeypatch.setattr(utils, "get_ksa_adapter", adapter)
        yield server


def found(server, *urls):
    server.locations[IMAGE_ID] = list(urls)
    return ImageLocations().of(IMAGE_ID)


def test_both_kinds_are_found_in_order(server):
    places = [location.parse(REGISTRY), location.parse(ENGINE)]
    assert found(server, REGISTRY, ENGINE) == places
    assert server.calls == [f"GET /v2/images/{IMAGE_ID}/locations"]


def test_an_image_that_is_nowhere(server):
    assert found(server) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///var/lib/glance/images/x",
        "rbd://pool/image/snap",
        "https://glance/x",
        "docker:local/debian:12",
        "docker://",
        "docker://local/debian:12",
        f"docker://local/../debian:12?id={DIGEST}&size=5",
        f"{ENGINE}&size=6",
        f"{ENGINE}#x",
        "",
    ],
)
def test_what_is_no_location_of_dockers_is_left_out(server, url):
    assert found(server, url) == []
    assert found(server, url, ENGINE) == [location.parse(ENGINE)]


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
@pytest.mark.parametrize("raises", [False, True])
def test_glance_that_does_not_say(server, monkeypatch, status, raises):
    server.fails = lambda method, path: status
    locations = ImageLocations()
    locations._adapter().raise_exc = raises
    assert locations.of(IMAGE_ID) == []


@pytest.mark.parametrize("answer", [None, {"message": "?"}, [{}], ["docker://"]])
def test_an_answer_that_is_not_glances(server, answer):
    server.answer = lambda *call: (200, answer)
    assert ImageLocations().of(IMAGE_ID) == []


def test_glance_that_is_not_there(server, monkeypatch):
    def away(*args, **kwargs):
        raise exceptions.ConnectFailure("no connection")

    locations = ImageLocations()
    monkeypatch.setattr(locations._adapter(), "get", away)
    assert locations.of(IMAGE_ID) == []


def test_a_service_without_credentials_asks_nobody(server, monkeypatch):
    monkeypatch.setattr(loading, "load_auth_from_conf_options", lambda *args: None)
    server.locations[IMAGE_ID] = [ENGINE]
    assert ImageLocations().of(IMAGE_ID) == []
    assert server.calls == []


def test_credentials_that_are_none(server, monkeypatch):
    def wrong(*args):
        raise exceptions.MissingRequiredOptions([])

    monkeypatch.setattr(loading, "load_auth_from_conf_options", wrong)
    assert ImageLocations().of(IMAGE_ID) == []
