# SPDX-License-Identifier: Apache-2.0
"""Images and times in the formats of engine responses."""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from typing import IO
from typing import Any

from docker_engine import errors

NEVER = "0001-01-01T00:00:00Z"

_FILE_TYPES = {
    tarfile.DIRTYPE: 1 << 31,
    tarfile.SYMTYPE: 1 << 27,
    tarfile.BLKTYPE: 1 << 26,
    tarfile.CHRTYPE: 1 << 26 | 1 << 21,
    tarfile.FIFOTYPE: 1 << 25,
}


def status(state: Mapping[str, Any]) -> str:
    """Return what GET /containers/json says of a container's state, in words."""
    if state["Status"] == "exited":
        return f"Exited ({state['ExitCode']}) 1 second ago"
    return "Created" if state["Status"] == "created" else "Up 1 second"


def unpacked(content: bytes) -> list[tuple[bytes, list[bytes], list[str]]]:
    """Return the configuration, layers and tags of every image in an archive.

    :raises EngineError: if the archive is malformed
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            return [
                (
                    _member(archive, manifest["Config"]).read(),
                    [_member(archive, name).read() for name in manifest["Layers"]],
                    [with_tag(tag) for tag in manifest.get("RepoTags") or []],
                )
                for manifest in json.load(_member(archive, "manifest.json"))
            ]
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise errors.for_status(500, f"invalid archive: {error}") from error


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def image(config: bytes) -> dict[str, Any]:
    """Return what GET /images/{ref}/json returns for an image configuration."""
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


def file_type(member: tarfile.TarInfo) -> int:
    """Return the bits of Go's FileMode that say what kind of file this is."""
    return _FILE_TYPES.get(member.type, 0)


def with_tag(ref: str) -> str:
    """Return the name of an image with its tag, ``latest`` by default."""
    return ref if ":" in ref.rpartition("/")[2] else f"{ref}:latest"


def now() -> str:
    """Return the current time in the engine's format."""
    now = datetime.datetime.now(datetime.UTC)
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")
