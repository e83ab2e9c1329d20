# SPDX-License-Identifier: Apache-2.0
"""Look-up of images' locations in Glance."""

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
            # As in Nova's adapter, responses with an error status are not raised.
            found.raise_exc = False
            return found

        monkeypatch.setattr(utils, "get_ksa_adapter", adapter)
        yield server


def found(server, *urls):
    server.locations[IMAGE_ID] = list(urls)
    return ImageLocations().of(IMAGE_ID)


def test_both_kinds_of_locations_are_returned_in_order(server):
    places = [location.parse(REGISTRY), location.parse(ENGINE)]
    assert found(server, REGISTRY, ENGINE) == places
    assert server.calls == [f"GET /v2/images/{IMAGE_ID}/locations"]


def test_an_image_without_locations_has_none(server):
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
def test_other_and_malformed_locations_are_ignored(server, url):
    assert found(server, url) == []
    assert found(server, url, ENGINE) == [location.parse(ENGINE)]


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
@pytest.mark.parametrize("raises", [False, True])
def test_there_are_no_locations_if_glance_refuses(server, monkeypatch, status, raises):
    server.fails = lambda method, path: status
    locations = ImageLocations()
    locations._adapter().raise_exc = raises
    assert locations.of(IMAGE_ID) == []


@pytest.mark.parametrize(
    "answer", [None, {"message": "?"}, [{}], ["docker://"], [{"url": 5}]]
)
def test_there_are_no_locations_in_an_unexpected_response(server, answer):
    server.answer = lambda *call: (200, answer)
    assert ImageLocations().of(IMAGE_ID) == []


def test_there_are_no_locations_if_glance_is_unreachable(server, monkeypatch):
    def away(*args, **kwargs):
        raise exceptions.ConnectFailure("no connection")

    locations = ImageLocations()
    monkeypatch.setattr(locations._adapter(), "get", away)
    assert locations.of(IMAGE_ID) == []


def test_without_credentials_glance_is_not_called(server, monkeypatch):
    monkeypatch.setattr(loading, "load_auth_from_conf_options", lambda *args: None)
    server.locations[IMAGE_ID] = [ENGINE]
    assert ImageLocations().of(IMAGE_ID) == []
    assert server.calls == []


def test_there_are_no_locations_with_incomplete_credentials(server, monkeypatch):
    def wrong(*args):
        raise exceptions.MissingRequiredOptions([])

    monkeypatch.setattr(loading, "load_auth_from_conf_options", wrong)
    assert ImageLocations().of(IMAGE_ID) == []
