# SPDX-License-Identifier: Apache-2.0
"""Mounts in the engine's form."""

from __future__ import annotations

from nova_docker.storage import mounts


def test_a_directory_of_the_host_is_mounted_read_only():
    assert mounts.read_only_directory("/srv/drive", "/mnt") == {
        "Type": "bind",
        "Source": "/srv/drive",
        "Target": "/mnt",
        "ReadOnly": True,
    }


def test_an_existing_volume_keeps_its_content():
    assert mounts.existing_volume("data", "/data") == {
        "Type": "volume",
        "Source": "data",
        "Target": "/data",
        "VolumeOptions": {"NoCopy": True},
    }


def test_an_overlay_is_an_anonymous_volume_without_the_images_files():
    mount = mounts.overlay_volume("lowerdir=/a,upperdir=/b", "/mnt", {"key": ""})
    assert "Source" not in mount
    assert (mount["Type"], mount["Target"]) == ("volume", "/mnt")
    assert mount["VolumeOptions"]["NoCopy"]
    assert mount["VolumeOptions"]["Labels"] == {"key": ""}
    assert mount["VolumeOptions"]["DriverConfig"] == {
        "Name": "local",
        "Options": {
            "type": "overlay",
            "device": "overlay",
            "o": "lowerdir=/a,upperdir=/b",
        },
    }
