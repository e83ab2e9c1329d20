# SPDX-License-Identifier: Apache-2.0
"""Images and times in the formats of the engine's answers."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import tarfile
from typing import Any

from docker_engine import errors

NEVER = "0001-01-01T00:00:00Z"


def member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def unpacked(content: bytes) -> list[tuple[bytes, list[bytes], list[str]]]:
    """Configuration, layers and tags of each image of an archive."""
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return [
                (
                    member(archive, manifest["Config"]).read(),
                    [member(archive, name).read() for name in manifest["Layers"]],
                    [with_tag(tag) for tag in manifest.get("RepoTags") or []],
                )
                for manifest in json.load(member(archive, "manifest.json"))
            ]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise errors.for_status(500, f"invalid archive: {error}") from error


def image(config: bytes) -> dict[str, Any]:
    """An image as GET /images/{ref}/json has it, of its configuration's bytes."""
    described = json.loads(config)
    return {
        "Id": "sha256:" + hashlib.sha256(config).hexdigest(),
        "RepoTags": [],
        "RepoDigests": [],
        "Architecture": described.get("architecture", ""),
        "Os": described.get("os", ""),
        "Config": described.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": described["rootfs"]["diff_ids"]},
        "Size": len(config),
    }


def with_tag(ref: str) -> str:
    return ref if ":" in ref.rpartition("/")[2] else f"{ref}:latest"


def now() -> str:
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
