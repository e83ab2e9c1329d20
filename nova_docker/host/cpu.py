# SPDX-License-Identifier: Apache-2.0
"""The host's CPUs, in the words of Nova's libvirt driver.

A container runs on the host's CPUs as they are, so a server has every feature
that the kernel lists.
"""

from __future__ import annotations

import re
from typing import Any

import os_traits
from nova.virt.libvirt import utils as libvirt_utils

_CPUINFO = "/proc/cpuinfo"

# Two that the kernel calls by another name; the rest differ by punctuation.
_KERNEL_NAMES = {"sse3": "pni", "pclmuldq": "pclmulqdq"}


def describe(architecture: str, cpuinfo: str | None = None) -> dict[str, Any]:
    """What Nova keeps as the ``cpu_info`` of a compute node.

    :param architecture: one of nova.objects.fields.Architecture
    :param cpuinfo: the text of /proc/cpuinfo, read from there if None
    :returns: ``arch`` and ``features`` (the kernel's names); ``vendor``,
        ``model`` and ``topology`` too where the kernel tells of them (x86)
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
    """Which of Placement's CPU traits the host has, and which it has not.

    :param info: what :func:`describe` returned
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
