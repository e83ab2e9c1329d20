# SPDX-License-Identifier: Apache-2.0
"""Prepare a container for gVisor."""

import idmap
import userns


def prepare(spec):
    """Replace the files that the engine writes for a container by copies in memory.

    gVisor's file server (the gofer) keeps the mount namespace in which they are.
    """
    stage = idmap.Stage(None, 0)
    for mount in spec.get("mounts", []):
        if mount["destination"] in userns.ENGINE_FILES:
            mount["source"] = stage.copy(mount["source"])
