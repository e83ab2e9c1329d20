# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image, as the engine reads it, and its limits.

The engine copies the configuration into each container, and returns it in each list of
containers and each event. Some of it takes the engine quadratic time. So its size is
limited, to several times what real images have.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 512 * 1024
MAX_VOLUMES = 64
# Items of each list; 20,000 variables take the engine seconds.
_MAX_ITEMS = 1000
_LISTS = ("Env", "Entrypoint", "Cmd", "Labels")

# The kernel's file systems in a container, without which it cannot run
_KERNEL = ("/", "/dev", "/proc", "/sys")


def problem(image: Mapping[str, Any]) -> str | None:
    """Return why an image's configuration would cost the host too much, if it would.

    :param image: as GET /images/{name}/json returns it. The engine's own reading
        counts: names in an image's configuration are case-insensitive for it.
    :returns: for example, the limit that it exceeds
    """
    config = image.get("Config") or {}
    problems = [
        f"its configuration has {len(value)} items in {name}, the limit is {_MAX_ITEMS}"
        for name in _LISTS
        if len(value := config.get(name) or ()) > _MAX_ITEMS
    ]
    size = len(json.dumps(config))
    if size > MAX_BYTES:
        problems.append(f"its configuration has {size} bytes, the limit is {MAX_BYTES}")
    declared = config.get("Volumes") or {}
    if len(declared) > MAX_VOLUMES:
        problems.append(
            f"it declares {len(declared)} volumes, the limit is {MAX_VOLUMES}"
        )
    problems += [
        f"it declares the volume {path!r}, which must be the absolute path of a "
        "directory other than the root directory and those of the kernel"
        for path in declared
        if not path.startswith("/") or _clean(path) in _KERNEL or _in_proc(path)
    ]
    return problems[0] if problems else None


def volumes(image: Mapping[str, Any]) -> list[str]:
    """Return the paths of the volumes that an image declares, cleaned and sorted.

    :param image: as GET /images/{name}/json returns it, without a :func:`problem`
    """
    config = image.get("Config") or {}
    return sorted({_clean(path) for path in config.get("Volumes") or {}})


def _clean(path: str) -> str:
    """Clean a path as the engine does: ``filepath.Clean`` of Go."""
    # Python keeps two leading slashes, which Go does not.
    return posixpath.normpath("/" + path.lstrip("/"))


def _in_proc(path: str) -> bool:
    return _clean(path).startswith("/proc/")
