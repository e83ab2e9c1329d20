# SPDX-License-Identifier: Apache-2.0
"""The host's CPUs, described as Nova's libvirt driver does.

Containers run on the host's CPUs directly, so a server has every feature that the
kernel reports.
"""

from __future__ import annotations

import re
from typing import Any

import os_traits
from nova.virt.libvirt import utils as libvirt_utils

_CPUINFO = "/proc/cpuinfo"

# Features with a different name in the kernel; all others differ only in punctuation.
_KERNEL_NAMES = {"sse3": "pni", "pclmuldq": "pclmulqdq"}


def describe(architecture: str, cpuinfo: str | None = None) -> dict[str, Any]:
    """Return the ``cpu_info`` of a compute node.

    :param architecture: one of nova.objects.fields.Architecture
    :param cpuinfo: content of /proc/cpuinfo; None to read the file
    :returns: ``arch`` and ``features`` (the kernel's names), and where the kernel
        reports them (x86), ``vendor``, ``model`` and ``topology``
    """
    if cpuinfo is None:
        with open(_CPUINFO) as file:
            cpuinfo = file.read()
    processors = [
        dict(re.findall(r"^(.*?)\s*: (.*)$", block, re.MULTILINE))
        for block in cpuinfo.split("\n\n")
    ]
    first = processors[0]
    flags = first.get("flags") or first.get("Features") or ""
    found: dict[str, Any] = {"arch": architecture, "features": sorted(flags.split())}
    if "cpu cores" in first:
        cores = int(first["cpu cores"])
        found |= {
            "vendor": first["vendor_id"],
            "model": first["model name"],
            "topology": {
                "sockets": len({p["physical id"] for p in processors if p}),
                "cores": cores,
                "threads": int(first["siblings"]) // cores,
            },
        }
    return found


def traits(info: dict[str, Any]) -> dict[str, bool]:
    """Return Placement's CPU traits, each with whether the host has it.

    :param info: as :func:`describe` returns it
    """
    flags = {_plain(flag) for flag in info["features"]}
    features = {
        name
        for name in libvirt_utils.CPU_TRAITS_MAPPING
        if _plain(_KERNEL_NAMES.get(name, name)) in flags
    }
    threads = info.get("topology", {}).get("threads", 1)
    return {
        **libvirt_utils.cpu_features_to_traits(features),
        os_traits.HW_CPU_HYPERTHREADING: threads > 1,
        **{
            trait: trait == f"HW_ARCH_{info['arch'].upper()}"
            for trait in os_traits.get_traits(prefix="HW_ARCH_")
        },
    }


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name)
