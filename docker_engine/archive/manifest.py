# SPDX-License-Identifier: Apache-2.0
"""The manifest of a ``docker save`` archive that this package writes."""

from __future__ import annotations

import json
from collections.abc import Sequence

#: Names of the members that every archive has
MANIFEST = "manifest.json"
CONFIG = "config.json"


def for_image(tag: str, layers: Sequence[str]) -> bytes:
    """Return the content of ``manifest.json`` for an archive with one image.

    :param tag: ``name:tag``, or empty for an image without a name
    :param layers: names of the members that are its layers, lowest first
    """
    image = {
        "Config": CONFIG,
        "RepoTags": [tag] if tag else None,
        "Layers": list(layers),
    }
    return json.dumps([image]).encode()
