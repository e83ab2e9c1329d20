# SPDX-License-Identifier: Apache-2.0
"""Images: loading, saving, tagging, listing, removing, committing."""

from __future__ import annotations

import json

import pytest

from docker_engine import errors
from tests import archives
from tests.conftest import IMAGE
from tests.contract.helpers import LABEL
from tests.contract.helpers import config
from tests.contract.helpers import names
from tests.contract.helpers import status


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.inspect_image("no-such-image"),
        lambda c: c.tag_image("no-such-image", "a", "b"),
        lambda c: c.remove_image("no-such-image"),
        lambda c: c.create_container("nova-2", {"Image": "no-such-image"}),
    ],
)
def test_a_missing_image_is_not_taken_for_a_missing_container(client, call):
    with pytest.raises(errors.ImageNotFound, match="No such image") as caught:
        call(client)
    assert caught.value.status == 404


@pytest.mark.parametrize("oci", [False, True])
def test_an_archive_becomes_an_image(client, oci):
    archive = archives.busybox_archive(
        config={"Cmd": ["sleep", "9"]}, tags=["loaded:1"], oci=oci
    )
    messages = client.load_image(iter([archive[:1000], archive[1000:]]))
    assert any("Loaded image" in message.get("stream", "") for message in messages)

    image = client.inspect_image("loaded:1")
    assert image["Config"]["Cmd"] == ["sleep", "9"]
    assert len(image["RootFS"]["Layers"]) == 1 and image["Size"] > 0
    assert "loaded:1" in [
        tag for found in client.list_images() for tag in found["RepoTags"]
    ]
    client.remove_image("loaded:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image("loaded:1")


def test_an_archive_of_two_images_is_loaded(client):
    first, second = (
        archives.members(archives.busybox_archive(config={"Cmd": [tag]}, tags=[tag]))
        for tag in ("first:1", "second:1")
    )
    manifests = [json.loads(m["manifest.json"]) for m in (first, second)]
    both = first | second
    del both["repositories"]
    both["manifest.json"] = json.dumps(manifests[0] + manifests[1]).encode()
    client.load_image([archives.tar(both)])
    for tag in ("first:1", "second:1"):
        assert client.inspect_image(tag)["Config"]["Cmd"] == [tag]
        client.remove_image(tag)


def test_an_image_is_found_by_its_id(client):
    image = client.inspect_image(IMAGE)
    assert image["Id"].startswith("sha256:") and IMAGE in names(image)
    for ref in (image["Id"], image["Id"][7:], image["Id"][:20], image["Id"][7:20]):
        assert client.inspect_image(ref)["Id"] == image["Id"]
    with pytest.raises(errors.NotFound):
        client.inspect_image("sha256:" + "0" * 64)


def test_an_image_may_have_no_name(client):
    archive = archives.busybox_archive(config={"Cmd": ["a"]})
    [message] = client.load_image([archive])
    image_id = message["stream"].rpartition(" ")[2].strip()
    assert client.inspect_image(image_id)["Config"]["Cmd"] == ["a"]
    client.remove_image(image_id)
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_an_image_in_use_is_not_removed(client):
    client.load_image(
        [archives.busybox_archive(config={"Cmd": ["b"]}, tags=["used:1"])]
    )
    container = client.create_container("nova-1", config(Image="used:1", Cmd=["sh"]))
    with pytest.raises(errors.Conflict):
        client.remove_image("used:1")
    client.start_container(container)
    image_id = client.inspect_image("used:1")["Id"]
    with pytest.raises(errors.Conflict):
        client.remove_image(image_id, force=True)
    client.remove_container(container)
    client.remove_image("used:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_an_image_is_removed_with_its_last_name(client):
    client.load_image([archives.busybox_archive(config={"Cmd": ["c"]}, tags=["one:1"])])
    client.tag_image("one:1", "two", "1")
    image_id = client.inspect_image("one:1")["Id"]
    with pytest.raises(errors.Conflict):
        client.remove_image(image_id)
    client.remove_image("one:1")
    assert names(client.inspect_image(image_id)) == {"two:1"}
    client.remove_image("two:1")
    with pytest.raises(errors.NotFound):
        client.inspect_image(image_id)


def test_images_are_listed_by_name(client):
    client.tag_image(IMAGE, "repo/listed", "1")
    client.tag_image(IMAGE, "repo/listed", "2")

    def listed(pattern):
        found = client.list_images({"reference": [pattern]})
        return {tag for image in found for tag in image["RepoTags"]}

    assert "repo/listed:1" in listed("repo/listed")
    assert "repo/listed:1" in listed("repo/*")
    assert "repo/listed:2" in listed("repo/listed:2")
    assert listed("listed") == set()
    with pytest.raises(errors.BadRequest, match="nonsense"):
        client.list_images({"nonsense": ["1"]})
    client.remove_image("repo/listed:1")
    client.remove_image("repo/listed:2")


def test_images_are_listed_with_their_names_and_digests(client):
    client.tag_image(IMAGE, "listed", "1")
    [found] = client.list_images({"reference": ["listed"]})
    inspected = client.inspect_image(IMAGE)
    assert found["Id"] == inspected["Id"]
    # Docker 20.10 lists only the names that match.
    assert "listed:1" in found["RepoTags"]
    # A loaded image is in no registry, but engines with containerd's image store list
    # a digest nevertheless.
    assert isinstance(found["RepoDigests"] or [], list)
    client.remove_image("listed:1")


def test_pulling_from_an_unreachable_registry_fails(client):
    with pytest.raises(errors.DockerError):
        client.pull_image("127.0.0.1:1/nothing", "sha256:" + "0" * 64)
    with pytest.raises(errors.NotFound):
        client.inspect_image("127.0.0.1:1/nothing@sha256:" + "0" * 64)


def test_invalid_archives_are_not_loaded(client):
    def images():
        return {found["Id"]: set(found["RepoTags"]) for found in client.list_images()}

    before = images()
    with pytest.raises(errors.DockerError):
        client.load_image([b"not an archive " * 100])
    assert images() == before


def test_a_failed_upload_leaves_nothing_and_raises_its_own_error(client):
    archive = archives.busybox_archive(tags=["half:1"])

    def chunks():
        yield archive[: len(archive) // 2]
        raise LookupError("the other half")

    with pytest.raises(LookupError, match="the other half"):
        client.load_image(chunks())
    with pytest.raises(errors.NotFound):
        client.inspect_image("half:1")


def test_a_tag_can_be_moved(client):
    client.tag_image(IMAGE, "moving", "1")
    assert client.inspect_image("moving:1")["Id"] == client.inspect_image(IMAGE)["Id"]
    client.load_image([archives.busybox_archive(config={"Cmd": ["id"]}, tags=["b:1"])])
    client.tag_image("b:1", "moving", "1")
    assert client.inspect_image("moving:1")["Id"] == client.inspect_image("b:1")["Id"]
    [found] = client.list_images({"reference": ["moving"]})
    assert "moving:1" in found["RepoTags"]
    client.remove_image("moving:1")
    client.remove_image("b:1")


def test_a_committed_image_can_be_saved_and_loaded(client, container):
    base = client.inspect_image(IMAGE)
    made = client.commit_container(
        container,
        "made",
        "1",
        {"Cmd": ["other"], "Env": ["A=1"], "Labels": {LABEL: ""}},
    )
    found = client.inspect_image("made:1")
    assert found["Id"] == made
    assert found["Config"]["Cmd"] == ["other"]
    assert "A=1" in found["Config"]["Env"]
    # The container's labels are kept, with the new value.
    assert found["Config"]["Labels"] == {LABEL: ""}
    saved = client.save_image(made)
    content = saved.read(512) + saved.read()
    saved.close()
    client.remove_image(made)
    client.load_image([content])
    again = client.inspect_image(made)
    assert again["Config"]["Cmd"] == ["other"]
    layers = base["RootFS"]["Layers"]
    assert again["RootFS"]["Layers"][: len(layers)] == layers
    client.remove_image(made)
    with pytest.raises(errors.DockerError):
        client.save_image(made)


def test_a_container_that_is_paused_can_be_committed(client, container):
    client.start_container(container)
    client.pause_container(container)
    for pause in (True, False):
        made = client.commit_container(container, "made", "1", {}, pause=pause)
        assert status(client, container) == "paused"
        client.remove_image(made)
