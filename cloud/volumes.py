# SPDX-License-Identifier: Apache-2.0
"""The loop devices of the cloud's volumes and servers, as the quickstart sees them."""

from __future__ import annotations

import threading

from cloud import commands
from cloud.cinder_loop import devices
from cloud.settings import STATE
from cloud.settings import VOLUMES

# The steps that start the nova-compute of each host run at the same time.
_restoring = threading.Lock()


def restore_devices() -> None:
    """Give each attached volume a loop device again.

    Cinder does the same when cinder-volume starts, but nova-compute starts the servers
    of a restarted host before that. All hosts have the devices of the machine.
    """
    with _restoring:
        devices.restore(_losetup, VOLUMES / "files", VOLUMES / "devices")


def detach_devices() -> None:
    """Detach all loop devices, those of ephemeral disks as well.

    The links of those of attached volumes stay.
    """
    for device, file in devices.all_devices():
        if file.is_relative_to(STATE.resolve()):
            commands.run("losetup", "--detach", device, check=False)


def _losetup(*arguments: str) -> str:
    return commands.output("losetup", *arguments)
