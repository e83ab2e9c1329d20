# SPDX-License-Identifier: Apache-2.0
"""A real engine's images in a real Glance: listed, readable and protected."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import pathlib
import re
import tempfile
import threading
import time

import pytest

from docker_engine import location
from docker_engine.credentials import credentials
from docker_engine.reference import RESERVED_REPOSITORIES
from docker_engine.registry import Registry
from glance_docker import image_cli
from glance_docker import image_metadata
from glance_docker.gateway import ImageGateway
from glance_docker.image_cli import CommandError
from glance_docker.sync.access_rules import Rules
from glance_docker.sync.follow import Follower
from glance_docker.sync.reconcile import Reconciler
from tests import archives
from tests import samples
from tests.functional.glance_api import GlanceApi
from tests.functional.registry_server import RegistryServer

pytestmark = pytest.mark.usefixtures("images")

TIMEOUT = 20  # seconds

MEMBER = ("member", "reader")
BASE = {"container_format": "docker", "disk_format": "raw", "name": "own"}
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
OCTETS = {"Content-Type": "application/octet-stream"}
NOWHERE = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def registry():
    with RegistryServer() as server:
        yield server


@pytest.fixture(scope="module")
def directory():
    with tempfile.TemporaryDirectory(prefix="nd-", dir="/tmp") as path:
        yield pathlib.Path(path)


@pytest.fixture(scope="module")
def socket(engine, directory):
    """A link to the engine's socket, for Glance; a test can take it away."""
    link = directory / "docker.sock"
    link.symlink_to(engine.host.removeprefix("unix://"))
    return link


@pytest.fixture(scope="module")
def glance(socket, registry, directory):
    registry.write_auth_file(directory / "config.json")
    options = {
        "docker_registry": registry.host,
        "docker_ca_file": registry.ca_file,
        "docker_registry_auth_file": str(directory / "config.json"),
    }
    with GlanceApi(f"unix://{socket}", options) as glance:
        yield glance


@pytest.fixture
def service(glance):
    return glance.service()


@pytest.fixture
def member(glance):
    """A user of a project that has nothing to do with the engine."""
    return glance.as_("project-b", *MEMBER)


@pytest.fixture
def start(engine, glance):
    """Creates a reconciler, as glance-docker-sync does when it starts."""
    with contextlib.ExitStack() as stack:

        def new(*rules, default="public"):
            reconciler = Reconciler(
                engine.client, glance.gateway(), glance.engine, Rules(rules, default), 2
            )
            return stack.enter_context(contextlib.closing(reconciler))

        yield new


@pytest.fixture
def reconciler(start):
    return start()


# Seconds for what takes less than one on an idle machine.
SOON = 5


@pytest.fixture
def load(engine):
    """Loads a new image into the engine, and returns its ID."""

    def new(*tags, **values):
        files = {"serial": samples.uuid().encode()}
        archive = archives.busybox_archive(files=files, tags=tags, **values)
        engine.client.load_image([archive])
        return engine.client.inspect_image(tags[0])["Id"]

    return new


def eventually(condition, timeout=TIMEOUT):
    """Wait until a condition is true, and return its value."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def reconcile(reconciler, **values):
    """Reconcile Glance with the engine, and wait until all images are active."""
    reconciler.run(**values)
    reconciler.finish()
    eventually(reconciler.settle)


def listed(session, **query):
    """Return the images that match a query, by name."""
    answer = session.get("/v2/images", params={"limit": 500, **query})
    assert answer.status_code == 200
    return {found["name"]: found for found in answer.json()["images"]}


def show(session, name):
    """Wait until Glance's task for an image is over, and return the image."""

    def found():
        image = listed(session, name=name)[name]
        return None if "os_glance_import_task" in image else image

    return eventually(found)


def make(session, **values):
    """Create an image that has no data yet, and return its ID."""
    answer = session.post("/v2/images", json=BASE | values)
    assert answer.status_code == 201
    return answer.json()["id"]


def locate(session, image_id, url):
    """Add a location to an image, and wait for Glance's task.

    :returns: the HTTP status, and the image's status after the task
    """
    answer = session.post(f"/v2/images/{image_id}/locations", json={"url": url})
    if answer.status_code == 202:

        def over():
            tasks = session.get(f"/v2/images/{image_id}/tasks").json()["tasks"]
            return tasks and all(t["status"] in ("success", "failure") for t in tasks)

        eventually(over)
    return answer.status_code, session.get(f"/v2/images/{image_id}").json()["status"]


def data(session, image_id, **headers):
    return session.get(f"/v2/images/{image_id}/file", headers=headers)


@pytest.fixture
def demo(engine, load, reconciler, service):
    """A listed image, as Glance describes it."""
    load("team/demo:1")
    reconcile(reconciler)
    return show(service, "team/demo:1")


# Reading listed images


def test_an_image_of_the_engine_is_an_active_image(load, reconciler, member):
    image_id = load("team/demo:1", config={"Cmd": ["sleep", "9"]})
    reconcile(reconciler)
    image = show(member, "team/demo:1")
    assert image["status"] == "active"
    assert image["visibility"] == "public" and image["protected"]
    assert (image["container_format"], image["disk_format"]) == ("docker", "raw")
    assert image["docker_image_id"] == image_id
    assert image["docker_cmd"] == '["sleep", "9"]'
    assert image["architecture"] == "x86_64"
    assert image["stores"] == "engine"


def test_the_data_of_an_image_is_an_archive_with_its_name(
    engine, load, reconciler, member
):
    image_id = load("team/demo:1")
    reconcile(reconciler)
    image = show(member, "team/demo:1")
    answer = data(member, image["id"])
    assert answer.status_code == 200
    assert len(answer.content) == image["size"] == int(answer.headers["Content-Length"])
    engine.client.remove_image("team/demo:1")
    engine.client.load_image([answer.content])
    assert engine.client.inspect_image("team/demo:1")["Id"] == image_id


def test_reading_an_image_twice_gives_the_same_data(demo, member):
    first, second = (data(member, demo["id"]).content for _ in range(2))
    assert first == second


def test_a_range_beyond_the_end_is_refused(demo, member):
    size = demo["size"]
    answer = data(member, demo["id"], Range=f"bytes={size}-{size + 9}")
    assert answer.status_code == 416


# Protection


def test_a_member_cannot_change_an_image_of_the_engine(demo, member):
    url = f"/v2/images/{demo['id']}"
    change = [{"op": "replace", "path": "/docker_image_id", "value": NOWHERE}]
    addition = [{"op": "add", "path": "/docker_digest", "value": f"evil@{NOWHERE}"}]
    place = f"docker://local/other:1?id={NOWHERE}&size=1"
    answers = [
        member.delete(url),
        member.patch(url, data=json.dumps(change), headers=PATCH),
        member.patch(url, data=json.dumps(addition), headers=PATCH),
        member.put(f"{url}/file", data=b"evil", headers=OCTETS),
        member.post(f"{url}/locations", json={"url": place}),
        member.get(f"{url}/locations"),
        member.delete(f"/v2/stores/engine/{demo['id']}"),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers), answers
    assert member.get(url).json() == demo


def test_a_member_cannot_add_a_location_on_the_engine(load, start, service, member):
    load("team/secret:1")
    reconciler = start(default="private")
    reconcile(reconciler)
    secret = show(service, "team/secret:1")
    assert member.get(f"/v2/images/{secret['id']}").status_code == 404
    [place] = service.get(f"/v2/images/{secret['id']}/locations").json()
    own = make(member)
    assert locate(member, own, place["url"]) == (403, "queued")
    values = [{"op": "replace", "path": "/locations", "value": [place]}]
    answer = member.patch(f"/v2/images/{own}", data=json.dumps(values), headers=PATCH)
    assert 400 <= answer.status_code < 500
    assert member.get(f"/v2/images/{own}").json()["status"] == "queued"
    assert not data(member, own).content


def on_engine(engine):
    return {found["Id"]: found["RepoTags"] for found in engine.client.list_images()}


def test_nobody_can_upload_to_the_engine(engine, member):
    before = on_engine(engine)
    own = make(member)
    answer = member.put(
        f"/v2/images/{own}/file",
        data=archives.busybox_archive(tags=["evil:1"]),
        headers={**OCTETS, "x-image-meta-store": "engine"},
    )
    assert 400 <= answer.status_code < 500
    assert member.get(f"/v2/images/{own}").json()["status"] == "queued"
    assert on_engine(engine) == before


def test_an_upload_is_stored_on_disk(engine, glance, member):
    before = on_engine(engine)
    archive = archives.busybox_archive(tags=["uploaded:1"])
    own = make(member)
    answer = member.put(f"/v2/images/{own}/file", data=archive, headers=OCTETS)
    assert answer.status_code == 204
    assert (glance.disk / own).read_bytes() == archive
    assert data(member, own).content == archive
    assert on_engine(engine) == before
    assert member.delete(f"/v2/images/{own}").status_code == 204
    assert not (glance.disk / own).exists()


def test_copied_properties_change_nothing(load, reconciler, service, member):
    """A user's image with the properties of a listed one is not taken for it."""
    image_id = load("team/demo:1")
    claims = {
        image_metadata.ENGINE: "local",
        image_metadata.NAME: "team/demo:1",
        image_metadata.IMAGE_ID: image_id,
    }
    own = make(member, **claims)
    reconcile(reconciler)
    assert show(service, "team/demo:1")["id"] != own
    assert member.get(f"/v2/images/{own}").json()["status"] == "queued"


# Invalid locations


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        ("demo", "%64emo"),
        (r"\?id=", "%3Fid="),
        ("local", "%6cocal"),
        ("$", "&more=1"),
        ("$", "#part"),
        ("$", r"\n"),
        ("$", f"&digest=app@sha256:{'f' * 2000}"),
        ("size=", "size=0"),
        ("size=", "size=-"),
        (r"\?id=", "?id=x&id="),
        ("//local/", "//user@local/"),
        ("//local/", "//local/../"),
        ("//local/", "//other/"),
        ("//local/", "//LOCAL/"),
        ("//local/", "//local:1/"),
        ("//local/", "///"),
        ("docker:", "DOCKER:"),
        (r"\?.*", ""),
        (".+", "docker://"),
        (".+", "docker:"),
        (".+", "docker://local"),
        (".+", "docker://[::1/app"),
        (".+", f"docker://local/app@{NOWHERE}"),
        (".+", f"docker://local/demo:1?id={NOWHERE}&size=1"),
    ],
)
def test_an_invalid_location_makes_no_image_active(demo, service, pattern, replacement):
    """Glance rejects it even from a user who can add locations."""
    [place] = service.get(f"/v2/images/{demo['id']}/locations").json()
    own = make(service)
    status, state = locate(
        service, own, re.sub(pattern, replacement, place["url"], count=1)
    )
    assert status < 500
    assert state == "queued"
    assert service.delete(f"/v2/images/{own}").status_code == 204


def test_a_wrong_size_in_the_location_breaks_off_the_download(demo, service):
    [place] = service.get(f"/v2/images/{demo['id']}/locations").json()
    image = location.parse(place["url"])
    own = make(service)
    wrong = place["url"].replace(f"size={image.size}", f"size={image.size + 1}")
    assert locate(service, own, wrong) == (202, "active")
    with pytest.raises(OSError, match="IncompleteRead"):
        data(service, own)
    service.delete(f"/v2/images/{own}")


# Missing images, and a missing engine


def test_an_image_removed_from_the_engine_has_no_data(engine, demo, member):
    engine.client.remove_image("team/demo:1")
    answer = data(member, demo["id"])
    assert answer.status_code in (204, 404)
    assert not answer.content


def test_a_moved_tag_does_not_change_an_images_data(engine, load, reconciler, member):
    old = load("team/demo:1")
    engine.client.tag_image(old, "team/demo", "old")
    reconcile(reconciler)
    image = show(member, "team/demo:1")
    load("team/demo:1")
    members = archives.members(data(member, image["id"]).content)
    [entry] = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == ["team/demo:1"]
    assert f"sha256:{hashlib.sha256(members[entry['Config']]).hexdigest()}" == old


def test_glance_starts_and_lists_images_without_the_engine(
    socket, glance, demo, member
):
    away = socket.rename(socket.with_name("away.sock"))
    try:
        assert data(member, demo["id"]).status_code == 503
        glance.restart()
        assert show(member, "team/demo:1")["id"] == demo["id"]
        assert data(member, demo["id"]).status_code == 503
    finally:
        away.rename(socket)
    assert len(data(member, demo["id"]).content) == demo["size"]


# Listing


def test_removing_a_tag_removes_its_image_from_glance(
    engine, load, reconciler, service
):
    image_id = load("team/demo:1")
    engine.client.tag_image(image_id, "team/demo", "2")
    reconcile(reconciler)
    one, two = show(service, "team/demo:1"), show(service, "team/demo:2")
    assert one["id"] != two["id"]
    assert one["docker_image_id"] == two["docker_image_id"] == image_id
    engine.client.remove_image("team/demo:1")
    reconcile(reconciler)
    found = listed(service)
    assert "team/demo:1" not in found
    assert found["team/demo:2"] == two
    assert service.get(f"/v2/images/{one['id']}").status_code == 404


def test_the_archive_of_each_tag_has_its_own_name(engine, load, reconciler, member):
    image_id = load("team/demo:1")
    engine.client.tag_image(image_id, "team/other/demo", "latest")
    reconcile(reconciler)
    for name in ("team/demo:1", "team/other/demo:latest"):
        image = show(member, name)
        content = data(member, image["id"]).content
        assert len(content) == image["size"]
        [entry] = json.loads(archives.members(content)["manifest.json"])
        assert entry["RepoTags"] == [name]


def test_a_moved_tag_becomes_a_new_image(engine, load, reconciler, service):
    first = load("team/demo:1")
    reconcile(reconciler)
    old = show(service, "team/demo:1")
    second = load("team/demo:1")
    assert first != second
    reconcile(reconciler)
    new = show(service, "team/demo:1")
    assert new["id"] != old["id"]
    assert (new["status"], new["docker_image_id"]) == ("active", second)
    assert service.get(f"/v2/images/{old['id']}").status_code == 404


def test_a_tag_that_comes_back_is_listed_again(engine, load, reconciler, service):
    """It gets another ID, because Glance never reuses an ID."""
    image_id = load("team/demo:keep")
    for _ in range(3):
        engine.client.tag_image(image_id, "team/demo", "1")
        reconcile(reconciler)
        assert show(service, "team/demo:1")["status"] == "active"
        engine.client.remove_image("team/demo:1")
        reconcile(reconciler)
        assert "team/demo:1" not in listed(service)


def test_images_of_nova_compute_are_not_listed(engine, load, reconciler, service):
    image_id = load("nova-glance/0:latest")
    engine.client.tag_image(image_id, "nova-snapshot/0", "latest")
    reconcile(reconciler)
    reserved = tuple(f"{name}/" for name in RESERVED_REPOSITORIES)
    assert not [name for name in listed(service) if name.startswith(reserved)]


def test_a_restart_finds_the_listed_images(load, start, service):
    load("team/demo:1")
    reconcile(start())
    before = {name: show(service, name) for name in listed(service)}
    reconcile(start())
    assert listed(service) == before


def test_changes_in_glance_are_undone(load, reconciler, service, demo):
    url = f"/v2/images/{demo['id']}"
    changes = [
        {"op": "replace", "path": "/name", "value": "x"},
        {"op": "replace", "path": "/visibility", "value": "private"},
        {"op": "replace", "path": "/protected", "value": False},
    ]
    service.patch(url, data=json.dumps(changes), headers=PATCH).raise_for_status()
    reconcile(reconciler, refresh=True)
    found = service.get(url).json()
    names = ("name", "visibility", "protected")
    assert [found[name] for name in names] == ["team/demo:1", "public", True]


def test_a_hidden_image_stays_hidden(engine, start, service, demo):
    url = f"/v2/images/{demo['id']}"
    hide = [{"op": "replace", "path": "/os_hidden", "value": True}]
    service.patch(url, data=json.dumps(hide), headers=PATCH).raise_for_status()
    reconcile(start())
    assert demo["name"] not in listed(service)
    assert listed(service, os_hidden="true")[demo["name"]]["id"] == demo["id"]
    engine.client.remove_image("team/demo:1")
    reconcile(start())
    assert service.get(url).status_code == 404


def test_an_image_deleted_in_glance_is_listed_again(load, reconciler, service, demo):
    url = f"/v2/images/{demo['id']}"
    unprotect = [{"op": "replace", "path": "/protected", "value": False}]
    service.patch(url, data=json.dumps(unprotect), headers=PATCH).raise_for_status()
    service.delete(url).raise_for_status()
    reconcile(reconciler, refresh=True)
    again = show(service, "team/demo:1")
    assert again["status"] == "active" and again["id"] != demo["id"]


def test_only_its_project_can_see_a_shared_image(load, start, glance):
    load("team-a/demo:1")
    load("scratch/demo:1")
    reconciler = start("team-a/* project:project-a", "scratch/* hidden")
    reconcile(reconciler)
    one, other = glance.as_("project-a", *MEMBER), glance.as_("project-c", *MEMBER)
    image = show(one, "team-a/demo:1")
    assert (image["status"], image["visibility"]) == ("active", "shared")
    assert len(data(one, image["id"]).content) == image["size"]
    assert "team-a/demo:1" not in listed(other)
    assert other.get(f"/v2/images/{image['id']}").status_code == 404
    assert data(other, image["id"]).status_code == 404
    assert "scratch/demo:1" not in listed(glance.service())
    # A restart reads the rules again.
    reconcile(start("team-a/* project:project-c"))
    assert "team-a/demo:1" not in listed(one)
    assert show(other, "team-a/demo:1")["id"] == image["id"]


def test_an_image_can_be_looked_up_by_its_name(demo, member):
    """Glance would take the part of the name before the colon for an operator."""
    assert list(listed(member, name="team/demo:1")) == ["team/demo:1"]
    assert not listed(member, name="team/demo:2")


def test_changes_on_the_engine_are_listed_at_once(engine, load, reconciler, service):
    image_id = load("team/demo:keep")
    follower = Follower(engine.client, reconciler, 300)
    thread = threading.Thread(target=follower.run)
    thread.start()
    try:
        eventually(lambda: "team/demo:keep" in listed(service))
        engine.client.tag_image(image_id, "team/demo", "1")
        eventually(lambda: "team/demo:1" in listed(service), SOON)
        eventually(lambda: show(service, "team/demo:1")["status"] == "active")
        engine.client.remove_image("team/demo:1")
        eventually(lambda: "team/demo:1" not in listed(service), SOON)
    finally:
        follower.stop()
        thread.join(TIMEOUT)
    assert not thread.is_alive()


# Images of a registry


@pytest.fixture
def app(registry):
    """The location of an image of the registry, and its ID on any engine."""
    layer = archives.busybox_layer({"serial": samples.uuid().encode()})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"],
            },
        }
    ).encode()
    digest = registry.push("team/app", "1", config, [gzip.compress(layer)])
    place = location.RegistryImage(registry.host, "team/app", digest)
    return place.url, f"sha256:{hashlib.sha256(config).hexdigest()}"


def test_an_image_is_read_from_its_registry(engine, glance, service, member, app):
    url, engine_id = app
    stored = set(glance.disk.iterdir())
    own = make(service, name="app", visibility="public")
    assert locate(service, own, url) == (202, "active")
    image = show(member, "app")
    assert image["stores"] == "registry"
    answer = data(member, own)
    assert len(answer.content) == image["size"]
    assert data(member, own, Range="bytes=-100").status_code == 400
    assert set(glance.disk.iterdir()) == stored
    engine.client.load_image([answer.content])
    assert engine.client.inspect_image(engine_id)["Config"]["Cmd"] == ["sh"]
    service.delete(f"/v2/images/{own}").raise_for_status()


def test_a_member_cannot_add_a_location_in_the_registry(member, app):
    own = make(member)
    assert locate(member, own, app[0]) == (403, "queued")


def test_an_image_missing_from_its_registry_is_not_active(registry, service, app):
    digest = app[0].rpartition("@")[2]
    for place in (
        f"docker://{registry.host}/team/app@{NOWHERE}",
        f"docker://{registry.host}/team/none@{digest}",
        f"docker://{registry.host.partition(':')[0]}/team/app@{digest}",
        app[0].replace("team/app", "team/%61pp"),
    ):
        own = make(service)
        status, state = locate(service, own, place)
        assert status < 500 and state == "queued", place


# nova-docker-image


@pytest.mark.parametrize("endpoint", ["", "/", "/v2", "/v2/"])
def test_an_image_is_pushed_to_the_clouds_glance(
    engine, glance, load, member, endpoint
):
    image_id = load("team/demo:1", config={"Cmd": ["sleep", "9"]})
    cloud = glance.cloud("project-b", *MEMBER, endpoint=endpoint)
    gateway = ImageGateway(image_cli._glance(cloud))
    pushed = image_cli.push(gateway, engine.client, "team/demo:1", {"name": "mine"})
    image = show(member, "mine")
    assert (image["id"], image["status"]) == (pushed, "active")
    assert image["docker_cmd"] == '["sleep", "9"]'
    engine.client.remove_image("team/demo:1")
    engine.client.load_image([data(member, pushed).content])
    assert engine.client.inspect_image("team/demo:1")["Id"] == image_id
    member.delete(f"/v2/images/{pushed}").raise_for_status()


@pytest.fixture
def real_registry(registry, directory):
    auth = credentials(str(directory / "config.json"), registry.host)
    return Registry(registry.host, auth=auth, ca_file=registry.ca_file)


def test_a_registry_image_is_registered(glance, service, real_registry, app):
    registered = image_cli.register(
        glance.gateway(), real_registry, "team/app:1", {"visibility": "public"}
    )
    [place] = service.get(f"/v2/images/{registered}/locations").json()
    assert place["url"] == app[0]
    image = show(service, f"{real_registry.host}/team/app:1")
    assert (image["id"], image["status"]) == (registered, "active")
    service.delete(f"/v2/images/{registered}").raise_for_status()


def test_a_member_cannot_register_an_image(glance, member, real_registry, app):
    before = listed(member)
    cloud = glance.cloud("project-b", *MEMBER)
    gateway = ImageGateway(image_cli._glance(cloud))
    with pytest.raises(CommandError, match="only from users with the role service"):
        image_cli.register(gateway, real_registry, "team/app:1", {})
    assert listed(member) == before
