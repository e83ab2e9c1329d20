# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from nova import exception

from nova_docker.container import volume_mode
from tests import samples


def flavor(mode=None):
    return samples.flavor(extra_specs={"docker:volume_mode": mode} if mode else {})


@pytest.mark.parametrize(
    ("of_flavor", "of_image", "default", "expected"),
    [
        (None, None, "device", "device"),
        (None, None, "filesystem", "filesystem"),
        (None, "filesystem", "device", "filesystem"),
        (None, "", "filesystem", "filesystem"),
        ("device", "filesystem", "filesystem", "device"),
        ("filesystem", "device", "device", "filesystem"),
    ],
)
def test_the_flavor_decides_before_image_and_host(
    of_flavor, of_image, default, expected
):
    found = volume_mode.of_server(flavor(of_flavor), of_image, default)
    assert found == expected


@pytest.mark.parametrize(
    ("of_flavor", "of_image", "named"),
    [
        ("mount", None, "flavor's docker:volume_mode=mount"),
        (None, "mount", "image's docker_volume_mode=mount"),
    ],
)
def test_an_unknown_mode_is_refused(of_flavor, of_image, named):
    with pytest.raises(exception.InvalidInput, match=named):
        volume_mode.of_server(flavor(of_flavor), of_image, "device")


@pytest.mark.parametrize(
    ("labels", "mode"),
    [
        (None, "device"),
        ({}, "device"),
        ({volume_mode.LABEL: "filesystem"}, "filesystem"),
        ({volume_mode.LABEL: "other"}, "device"),
    ],
)
def test_the_mode_of_a_container(labels, mode):
    assert volume_mode.of_container(labels) == mode


def test_the_operator_must_allow_mounts():
    volume_mode.refuse("device", mounts=False)
    volume_mode.refuse("filesystem", mounts=True)
    with pytest.raises(exception.InvalidInput, match="mount_volumes"):
        volume_mode.refuse("filesystem", mounts=False)
    assert volume_mode.traits(mounts=True) == {"CUSTOM_DOCKER_MOUNT_VOLUMES": True}


def test_a_resize_keeps_the_mode():
    volume_mode.refuse_change(flavor(), "filesystem")
    volume_mode.refuse_change(flavor("filesystem"), "filesystem")
    with pytest.raises(exception.ResizeError, match="docker:volume_mode=device"):
        volume_mode.refuse_change(flavor("filesystem"), "device")
