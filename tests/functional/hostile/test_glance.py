# SPDX-License-Identifier: Apache-2.0
"""Attacks on an engine through Glance, by a user who may download its images."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from urllib.parse import urlsplit

import pytest

from docker_engine import location
from glance_docker.export import Measurement
from glance_docker.export import TooSlow
from glance_docker.export import export_in_time
from glance_docker.slots import Slots
from tests import archives
from tests.attacks import attack
from tests.functional.glance_api import GlanceApi

NAME = "team/large:1"
# More than all buffers between the engine and a client hold.
SIZE = 48 * 2**20
TIMEOUT = 30  # seconds


@pytest.fixture(scope="module")
def glance(engine):
    """A Glance that lets its users cause one export at a time."""
    with GlanceApi(engine.host, docker_exports="2", docker_export_wait="1") as glance:
        yield glance


@pytest.fixture(scope="module")
def image_id(engine):
    content = archives.busybox_archive(files={"data": os.urandom(SIZE)}, tags=[NAME])
    engine.client.load_image([content])
    yield engine.client.inspect_image(NAME)["Id"]
    engine.client.remove_image(NAME)


@pytest.fixture(scope="module")
def image(engine, glance, image_id):
    """An image that Glance lists for everybody."""
    service = glance.service()
    size = Measurement(engine.client, image_id).size(NAME)
    url = location.EngineImage(glance.engine, NAME, image_id, size).url
    body = {"container_format": "docker", "disk_format": "raw", "name": "large"}
    answer = service.post("/v2/images", json=body | {"visibility": "public"})
    found = answer.json()["id"]
    service.post(f"/v2/images/{found}/locations", json={"url": url})

    def status():
        return service.get(f"/v2/images/{found}").json()["status"]

    assert eventually(lambda: status() == "active")
    yield found
    service.delete(f"/v2/images/{found}").raise_for_status()


@pytest.fixture
def tenant(glance):
    return glance.as_("hostile", "member", "reader")


@pytest.fixture
def exports(engine):
    """Returns the exports that the engine keeps on its disk."""
    directory = engine._directory / "data/tmp"

    def found():
        return {path.name for path in directory.glob("docker-export-*")}

    assert eventually(lambda: not found())
    return found


def eventually(condition):
    deadline = time.monotonic() + TIMEOUT
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


@attack(
    "Make the engine export an image for one byte",
    tried="requests single bytes and other ranges of a listed image, 50 times",
    held_by="the store offers no parts of images: Glance answers 400, and the engine "
    "exports nothing",
)
def test_ranges_cost_no_export(engine, image, tenant, exports):
    directory = engine._directory / "data/tmp"
    before = directory.stat().st_mtime_ns
    size = tenant.get(f"/v2/images/{image}").json()["size"]
    ranges = ["0-0", "-1", "1000-", f"0-{size - 1}", f"{size - 1}-"]
    for asked in ranges * 10:
        answer = tenant.get(
            f"/v2/images/{image}/file", headers={"Range": f"bytes={asked}"}
        )
        assert answer.status_code == 400
    assert tenant.head(f"/v2/images/{image}/file").status_code >= 400
    # The engine has created and removed nothing there.
    assert directory.stat().st_mtime_ns == before


def idle_download(glance, tenant, image):
    """Begin a download and read nothing of it; return the connection."""
    address = urlsplit(glance.url)
    connection = socket.create_connection((address.hostname, address.port), TIMEOUT)
    headers = {"Host": address.netloc, "Connection": "close", **tenant.headers}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    request = f"GET /v2/images/{image}/file HTTP/1.1\r\n{''.join(lines)}\r\n"
    connection.sendall(request.encode())
    return connection


@attack(
    "Fill the engine's disk with exports",
    tried="begins eight downloads of a listed image at the same time and reads none of "
    "them, then leaves",
    held_by="the number of exports that Glance's processes may cause at the same time "
    "([engine]docker_exports); others get 503, and a client that leaves ends the "
    "engine's export",
)
def test_many_downloads_are_bounded_and_end_with_their_clients(
    glance, image, tenant, exports
):
    with contextlib.ExitStack() as clients:
        connections = [
            clients.enter_context(idle_download(glance, tenant, image))
            for _ in range(8)
        ]
        most = 0
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            most = max(most, len(exports()))
            time.sleep(0.01)
        assert most == 1
        answers = [connection.recv(12) for connection in connections]
        assert sorted(answers) == [b"HTTP/1.0 200"] + [b"HTTP/1.0 503"] * 7
        # glance-docker-sync can still measure a new image.
        locks = str(glance.locks)
        with Slots(locks, glance.engine, 2).taken(wait=0):
            pass
    assert eventually(lambda: not exports())
    answer = tenant.get(f"/v2/images/{image}/file")
    assert answer.status_code == 200 and len(answer.content) > SIZE


@attack(
    "Keep an export for ever",
    tried="begins to read an export, and asks for no more",
    held_by="a time limit that follows the image's size ([engine]docker_export_rate); "
    "the engine's connection and the slot are given back even if the reader is stuck",
)
def test_a_reader_who_does_not_read_keeps_no_export(engine, image_id, exports):
    slots = Slots(None, "local", 1)
    with slots.taken() as slot:
        chunks = export_in_time(engine.client, image_id, NAME, slot, 1)
        next(chunks)
        assert exports()
        assert eventually(lambda: not exports())
        with slots.taken(wait=TIMEOUT):
            pass
        with pytest.raises(TooSlow, match="more than 1 s"):
            list(chunks)
