# SPDX-License-Identifier: Apache-2.0
"""What a flavor or an image may ask of Nova and a container cannot have.

The scheduler says no before a host is tried where Nova turns the wish into a
trait, a resource or a filter (secure boot, vTPM, SEV, dedicated CPUs, PCI
devices, ephemeral encryption, …): the driver reports none of these. Nova passes
on the rest, emulated devices and firmware above all, and this module refuses it
by name, so that nothing is silently missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nova import exception
from nova import objects

# Image properties that say how the hardware is to be, but for what a container
# fulfils: its scheduler filters have checked the first two, and the driver needs
# no agent for what one is for.
_IMAGE = "hw_"
_FULFILLED = {
    "hw_architecture",
    "hw_vm_mode",
    "hw_qemu_guest_agent",
    "hw_auto_disk_config",
}
_FIRMWARE = "os_secure_boot"

# Extra specs of flavors that do the same, and those that limit what is not
# limited yet.
_EXTRA_SPECS = ("hw:", "os:secure_boot", "pci_passthrough:", "accel:", "quota:")

# Values that ask for nothing: "no", in the words of each property.
_NOTHING = {"", "0", "false", "no", "off", "none", "disabled", "optional", "shared"}


def refuse(flavor: objects.Flavor, image_meta: objects.ImageMeta) -> None:
    """Refuse a server that would be without what it asks for.

    :raises InvalidInput: with the name of each property and extra spec
    """
    if wishes := [*_of_flavor(flavor), *_of_image(image_meta)]:
        raise exception.InvalidInput(
            reason=f"a container cannot have {', '.join(wishes)}"
        )


def _of_flavor(flavor: objects.Flavor) -> Iterable[str]:
    for name, value in sorted(flavor.extra_specs.items()):
        if name.startswith(_EXTRA_SPECS) and _asks(value):
            yield f"{name}={value} (flavor)"


def _of_image(image_meta: objects.ImageMeta) -> Iterable[str]:
    for name, value in sorted(image_meta.properties.to_dict().items()):
        if (
            (name.startswith(_IMAGE) or name == _FIRMWARE)
            and name not in _FULFILLED
            and _asks(value)
        ):
            yield f"{name}={value} (image)"


def _asks(value: Any) -> bool:
    return str(value).lower() not in _NOTHING
