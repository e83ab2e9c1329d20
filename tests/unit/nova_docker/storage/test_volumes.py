# SPDX-License-Identifier: Apache-2.0
"""Block devices are refused by kind."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.storage import volumes


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ({"block_device_mapping": [{"mount_device": "/dev/vda"}]}, "volumes"),
        ({"ephemerals": [{"size": 1}]}, "ephemeral disks"),
    ],
)
def test_volumes_and_ephemeral_disks_are_refused_by_name(info, kind):
    with pytest.raises(exception.InvalidInput, match=f"does not support {kind}"):
        volumes.refuse(info)


@pytest.mark.parametrize(
    "info", [None, {}, {"block_device_mapping": [], "ephemerals": [], "swap": None}]
)
def test_a_server_without_block_devices_is_accepted(info):
    volumes.refuse(info)
