# SPDX-License-Identifier: Apache-2.0
"""What the dashboard tells a server's user about its container."""

from __future__ import annotations

import types

import pytest

from nova_docker_dashboard import facts
from nova_docker_dashboard.facts import CONFIG_DRIVE

FLAVOR = {"vcpus": 2, "ram": 512, "swap": 0, "disk": 5, "extra_specs": {}}


def server(**values):
    return {"flavor": FLAVOR, "image": {"id": "one"}, **values}


def shown(title, server, image=(), volumes=()):
    """Return a section's facts by name."""
    found = {
        str(section.title): section.facts
        for section in facts.sections(server, dict(image), volumes)
    }
    return {str(name): value for name, value in found[title]}


@pytest.mark.parametrize(("form", "expected"), [("docker", True), ("bare", False)])
def test_the_images_format_tells_a_container(form, expected):
    assert facts.is_container({"container_format": form}) is expected


def test_nothing_is_a_container_without_an_image():
    assert not facts.is_container({})


def test_an_image_of_an_engine_is_told_by_its_digests():
    image = {
        "docker_tag": "app:1",
        "docker_digest": "registry.example/app@sha256:12",
        "docker_image_id": "sha256:34",
        "os_hash_value": None,
    }
    assert shown("Image", server(), image) == {
        "Name on the engine": "app:1",
        "Digest in a registry": "registry.example/app@sha256:12",
        "Image ID of Docker": "sha256:34",
    }


def test_an_uploaded_image_is_told_by_the_digest_of_its_archive():
    image = {"os_hash_algo": "sha512", "os_hash_value": "ab"}
    assert shown("Image", server(), image) == {"Digest of the archive": "sha512:ab"}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ({"docker_cmd": '["sh", "-c", "a b"]'}, {"Command": "sh -c 'a b'"}),
        (
            {"docker_entrypoint": '["/entry"]', "docker_cmd": '["run"]'},
            {"Entry point": "/entry", "Command": "run"},
        ),
        ({"docker_cmd": '["sh"]', "os_init": "none"}, {"Command": "sh"}),
        (
            {"docker_cmd": '["sh"]', "os_init": "docker-init"},
            {"Init": "docker-init", "Command": "sh"},
        ),
        ({}, {}),
    ],
)
def test_the_first_process_is_the_images(image, expected):
    assert shown("First process", server(), image) == expected


def test_the_command_of_the_boot_counts_and_not_a_later_one():
    at_boot = server(image={"properties": {"os_command_line": "sleep 1"}})
    image = {"os_command_line": "sleep 2", "docker_cmd": '["sh"]'}
    assert shown("First process", at_boot, image) == {"Command": "sleep 1"}


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"a": 1}', "[" * 100_000])
def test_what_an_owner_wrote_into_a_property_is_shown_as_it_is(text):
    image = {"docker_cmd": text, "docker_volumes": text}
    assert shown("First process", server(), image) == {"Command": text}
    assert shown("Mounts", server(), image) == {"/": "root disk"}


def test_mounts_are_those_of_the_image_the_config_drive_and_volumes():
    volume = types.SimpleNamespace(device="/dev/vdb", name="", volumeId="two")
    image = {"docker_volumes": '["/data"]'}
    found = shown("Mounts", server(has_config_drive=True), image, [volume])
    assert list(found) == ["/", "/data", CONFIG_DRIVE, "/dev/vdb"]
    assert found["/dev/vdb"] == "two"


def test_limits_are_the_flavors():
    assert shown("Limits", server()) == {
        "CPUs": "2",
        "Memory": "512 MiB",
        "Swap": "none",
        "Root disk": "5 GiB",
    }


def test_a_flavor_without_a_disk_limits_none():
    flavor = {**FLAVOR, "disk": 0}
    assert shown("Limits", server(flavor=flavor))["Root disk"] == "no limit"


def test_a_flavor_may_decide_the_isolation():
    specs = {"docker:isolation": "gvisor", "docker:net_admin": "false", "hw:x": "1"}
    found = shown("Limits", server(flavor={**FLAVOR, "extra_specs": specs}))
    assert found["Isolation"] == "gvisor"
    assert found["Network administration"] == "not allowed"
    assert len(found) == 6


def test_nothing_of_the_host_is_shown():
    told = server(compute_host="host-1", hypervisor_hostname="node-1", host_id="ab")
    text = repr(facts.sections(told, {"docker_engine": "engine-1", "stores": "s-1"}))
    assert not any(word in text for word in ("host-1", "node-1", "engine-1", "s-1"))
