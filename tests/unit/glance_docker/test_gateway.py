# SPDX-License-Identifier: Apache-2.0
"""Calls to Glance, and how they fail."""

from __future__ import annotations

import pytest
from keystoneauth1 import exceptions

from glance_docker import gateway as gateways
from glance_docker.gateway import Conflict
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.gateway import NotFound
from tests import glance

URL = f"docker://registry.example/app@sha256:{'1' * 64}"


@pytest.fixture
def image_id(gateway):
    return gateway.create({"name": "app"})["id"]


def test_it_knows_the_users_project(gateway):
    assert gateway.project_id == glance.PROJECT


def test_an_image_has_dockers_formats(server, gateway, image_id):
    image = gateway.show(image_id)
    assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
    assert (image["name"], image["status"]) == ("app", "queued")


def test_all_pages_of_a_list_are_read(server, gateway):
    for number in range(1001):
        server.add(kind="even" if number % 2 == 0 else "odd", name="a & b")
    assert len(list(gateway.images({}))) == 1001
    assert server.calls == ["GET /v2/images"] * 2
    assert len(list(gateway.images({"kind": "odd", "name": "a & b"}))) == 500


def test_an_upload_is_streamed(server, gateway, image_id):
    chunks = iter([b"one", b"two"])
    gateway.upload(image_id, chunks)
    assert server.data[image_id] == b"onetwo"
    assert gateway.show(image_id)["status"] == "active"


@pytest.mark.parametrize("status", [401, 413, 503])
def test_an_upload_is_not_repeated(server, image_id, status):
    adapter = server.adapter()
    adapter.connect_retries = adapter.status_code_retries = 5
    server.fails = lambda method, path: status
    server.calls.clear()
    with pytest.raises(GatewayError, match=str(status)):
        ImageGateway(adapter).upload(image_id, iter([b"data"]))
    assert server.calls == [f"PUT /v2/images/{image_id}/file"]


def test_an_error_of_the_data_passes_through(server, gateway, image_id):
    def chunks():
        yield b"data"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        gateway.upload(image_id, chunks())
    assert image_id not in server.data


def test_a_located_image_becomes_active(server, gateway, image_id):
    gateway.add_location(image_id, URL)
    gateway.wait_until_active(image_id)
    assert server.locations[image_id] == [URL]
    with pytest.raises(Conflict):
        gateway.add_location(image_id, URL)


def test_only_the_role_service_may_add_a_location(server, gateway, image_id):
    server.fails = lambda method, path: 403
    with pytest.raises(GatewayError, match=r"users with the role service: .*403"):
        gateway.add_location(image_id, URL)


def test_a_location_that_glance_rejects(server, gateway, image_id):
    server.rejects = "Invalid location"
    gateway.add_location(image_id, URL)
    with pytest.raises(GatewayError, match="rejected the location: Invalid location"):
        gateway.wait_until_active(image_id)


def test_glance_does_not_make_an_image_active(server, gateway, image_id, monkeypatch):
    monkeypatch.setattr(gateways, "_ACTIVE_TIMEOUT", 0.3)
    server.importing = True
    gateway.add_location(image_id, URL)
    with pytest.raises(GatewayError, match=rf"{image_id} active within 0\.3 s"):
        gateway.wait_until_active(image_id)


def test_members_are_exactly_those_given(server, gateway):
    image_id = gateway.create({"name": "app", "visibility": "shared"})["id"]
    gateway.share(image_id, ["a", "b"])
    gateway.share(image_id, ["b", "c"])
    assert server.members[image_id] == {"b": "accepted", "c": "accepted"}


def test_a_deleted_image_is_not_found(server, gateway, image_id):
    gateway.update(image_id, {"name": "renamed"})
    assert server.names == ["renamed"]
    gateway.delete(image_id)
    for call in (gateway.show, gateway.delete):
        with pytest.raises(NotFound, match="404"):
            call(image_id)


CALLS = [
    lambda gateway, image_id: list(gateway.images({})),
    lambda gateway, image_id: gateway.show(image_id),
    lambda gateway, image_id: gateway.create({"name": "b"}),
    lambda gateway, image_id: gateway.update(image_id, {"name": "b"}),
    lambda gateway, image_id: gateway.delete(image_id),
    lambda gateway, image_id: gateway.share(image_id, ["a"]),
    lambda gateway, image_id: gateway.upload(image_id, iter([b"data"])),
    lambda gateway, image_id: gateway.add_location(image_id, URL),
    lambda gateway, image_id: gateway.wait_until_active(image_id),
]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 500, 503])
@pytest.mark.parametrize("call", CALLS)
def test_a_failed_call_raises_a_gateway_error(server, gateway, image_id, call, status):
    server.fails = lambda method, path: status
    with pytest.raises(GatewayError, match=str(status)) as caught:
        call(gateway, image_id)
    assert isinstance(caught.value, NotFound) == (status == 404)
    assert isinstance(caught.value, Conflict) == (status == 409)


@pytest.mark.parametrize("call", CALLS)
def test_an_unreachable_glance_raises_a_gateway_error(server, call):
    gateway = ImageGateway(server.adapter())
    server.server_close()
    with pytest.raises(GatewayError, match="Glance: Unable to establish connection"):
        call(gateway, "id")


def test_a_failure_of_keystone_raises_a_gateway_error(server, monkeypatch):
    adapter = server.adapter()

    def unauthorized():
        raise exceptions.Unauthorized("wrong password")

    monkeypatch.setattr(adapter, "get_project_id", unauthorized)
    with pytest.raises(GatewayError, match="wrong password"):
        ImageGateway(adapter).project_id  # noqa: B018


@pytest.mark.parametrize("answer", [None, [], {}, {"images": None}, {"tasks": [{}]}])
@pytest.mark.parametrize(
    "call",
    [
        lambda gateway: list(gateway.images({})),
        lambda gateway: gateway.share("id", ["a"]),
        lambda gateway: gateway.wait_until_active("id"),
    ],
)
def test_a_malformed_response_raises_a_gateway_error(server, gateway, answer, call):
    server.answer = lambda *request: (200, answer)
    with pytest.raises(GatewayError, match="Unexpected response from Glance"):
        call(gateway)
