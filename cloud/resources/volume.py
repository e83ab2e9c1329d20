# SPDX-License-Identifier: Apache-2.0
"""Cinder: volume types, and waiting for its back end."""

from __future__ import annotations

from typing import Any

from cloud import settings
from cloud.probes import wait_until
from cloud.resources.broker import consumes
from cloud.resources.connection import connect
from cloud.resources.connection import find_or_create

# name: extra specs
TYPES: dict[str, dict[str, str]] = {
    "loop": {},
    # Volumes that several servers may use at once.
    "loop-multiattach": {"multiattach": "<is> True"},
}


def create_types() -> None:
    """Create the volume types, and wait until volumes can be created."""
    api = connect().block_storage
    for name, extra_specs in TYPES.items():
        find_or_create(api.find_type, api.create_type, name, extra_specs=extra_specs)
    log = settings.LOG / "cinder-volume.log"
    wait_until(
        lambda: _has_back_end(api),
        f"cinder-volume does not tell the scheduler about its back end; see {log}",
    )


def _has_back_end(api: Any) -> bool:
    """Tell whether the scheduler knows where to create volumes."""
    return consumes("cinder-scheduler") and any(api.backend_pools())
