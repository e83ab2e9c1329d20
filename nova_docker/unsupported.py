# SPDX-License-Identifier: Apache-2.0
"""Requests of flavors and images that a container cannot fulfil.

Nova turns some of them into a trait, a resource or a filter (secure boot, vTPM, SEV,
PCI devices, ephemeral encryption, …), and the scheduler finds no host,
because the driver reports none of these. Nova passes on all others, above all emulated
devices and firmware. This module refuses those by name, so that nothing is silently
missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nova import exception
from nova import objects

from nova_docker.container import quota

# Image properties with this prefix describe hardware. The exceptions can be fulfilled:
# Nova's scheduler has checked the first two, and the driver needs no guest agent.
_IMAGE = "hw_"
_FULFILLED = {
    "hw_architecture",
    "hw_vm_mode",
    "hw_qemu_guest_agent",
    "hw_auto_disk_config",
    # Nova chooses the CPUs, and container.pinning refuses what the flavor lacks.
    "hw_cpu_policy",
    "hw_cpu_thread_policy",
}
# The same for extra specs, beside those of quotas
_FULFILLED_SPECS = {"hw:cpu_policy", "hw:cpu_thread_policy", "hw:cpu_dedicated_mask"}
_FIRMWARE = "os_secure_boot"

# Extra specs that request hardware, or limits; the driver has some of the latter
_EXTRA_SPECS = ("hw:", "os:secure_boot", "pci_passthrough:", "accel:", "quota:")

# Values that request nothing
_NOTHING = {"", "0", "false", "no", "off", "none", "disabled", "optional", "shared"}


def refuse(flavor: objects.Flavor, image_meta: objects.ImageMeta) -> None:
    """Refuse a server that would not get what its flavor and image request.

    :raises InvalidInput: naming each such property and extra spec
    """
    if requests := [*_of_flavor(flavor), *_of_image(image_meta)]:
        raise exception.InvalidInput(
            reason=f"a container cannot have {', '.join(requests)}; use an image and a "
            "flavor without these properties"
        )


def _of_flavor(flavor: objects.Flavor) -> Iterable[str]:
    for name, value in sorted(flavor.extra_specs.items()):
        if (
            name.startswith(_EXTRA_SPECS)
            and name not in quota.NAMES | _FULFILLED_SPECS
            and _requested(value)
        ):
            yield f"{name}={value} (flavor)"


def _of_image(image_meta: objects.ImageMeta) -> Iterable[str]:
    for name, value in sorted(image_meta.properties.to_dict().items()):
        if (
            (name.startswith(_IMAGE) or name == _FIRMWARE)
            and name not in _FULFILLED
            and _requested(value)
        ):
            yield f"{name}={value} (image)"


def _requested(value: Any) -> bool:
    return str(value).lower() not in _NOTHING
