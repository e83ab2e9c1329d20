# SPDX-License-Identifier: Apache-2.0
"""The mount options for a container's root file system."""

from __future__ import annotations

import pytest

from nova_docker.storage import overlay


def graph_driver(layers=2):
    return {
        "Name": "overlay2",
        "Data": {
            "LowerDir": ":".join(f"/layers/{number}" for number in range(layers)),
            "UpperDir": "/upper",
            "WorkDir": "/work",
        },
    }


def test_the_root_is_mounted_without_setuid_and_devices(monkeypatch):
    monkeypatch.setattr(overlay, "_OVERLAY_INDEX", "/no/such/file")
    assert overlay.mount_options(graph_driver()) == (
        "lowerdir=/layers/0:/layers/1,upperdir=/upper,workdir=/work,nosuid,nodev"
    )


def test_the_index_is_off_where_the_kernel_has_one(monkeypatch, tmp_path):
    monkeypatch.setattr(overlay, "_OVERLAY_INDEX", str(tmp_path))
    assert overlay.mount_options(graph_driver()).endswith(",index=off")


@pytest.mark.parametrize("found", [{}, {"Name": "btrfs", "Data": None}])
def test_another_storage_driver_is_refused_by_name(found):
    with pytest.raises(overlay.NotMountable, match=f"{found.get('Name')} .*overlay2"):
        overlay.mount_options(found)


def test_too_many_layers_are_refused_with_their_number():
    # The init layer is not the image's.
    with pytest.raises(overlay.NotMountable, match="has 999 layers"):
        overlay.mount_options(graph_driver(layers=1000))
