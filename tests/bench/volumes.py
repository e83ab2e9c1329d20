# SPDX-License-Identifier: Apache-2.0
"""The time to attach a volume to a running server, and to detach it."""

from __future__ import annotations

import pathlib
import time
from typing import Any

from nova import utils
from os_brick.initiator import connector

from nova_docker.driver import DockerDriver
from tests.functional import loops

MOUNTPOINT = "/dev/vdb"


def times(
    driver: DockerDriver, instance: Any, directory: pathlib.Path, rounds: int
) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds to attach, to detach, and of one step of os-brick.

    os-brick's connector of local volumes does nothing at all. Each other one runs
    programs by its privileged daemon, at least one to connect and one to disconnect:
    the step is such a program, which does nothing.

    :param instance: of a server that runs
    """
    attached: list[float] = []
    detached: list[float] = []
    steps: list[float] = []
    root = utils.get_root_helper()
    brick = connector.InitiatorConnector.factory("local", root)
    with loops.made(directory / "volume") as volume:
        info = volume.connection_info()
        for counted in [False] + [True] * rounds:
            begun = time.monotonic()
            driver.attach_volume(None, info, instance, MOUNTPOINT)
            middle = time.monotonic()
            driver.detach_volume(None, info, instance, MOUNTPOINT)
            end = time.monotonic()
            brick._execute("true", run_as_root=True, root_helper=root)
            if counted:
                attached.append(middle - begun)
                detached.append(end - middle)
                steps.append(time.monotonic() - end)
    return attached, detached, steps
