# SPDX-License-Identifier: Apache-2.0
"""The mock's part of :mod:`docker_engine.api.images`."""

from __future__ import annotations

import copy
import fnmatch
import io
import json
import tarfile
from collections.abc import Iterable
from typing import Any

from docker_engine import errors
from docker_engine.api.base import Filters
from docker_engine.mock import formats
from docker_engine.mock.filters import check_filters
from docker_engine.mock.state import MockState
from docker_engine.streams.bytes import ByteStream


class MockImages(MockState):
    def save_image(self, ref: str) -> ByteStream | io.BytesIO:
        self._call("save_image")
        with self._lock:
            image = self._find_image(ref)
            config, layers = self._saved[image["Id"]]
        files = {f"{number}/layer.tar": layer for number, layer in enumerate(layers)}
        manifest = {
            "Config": "config.json",
            "RepoTags": None,
            "Layers": list(files),
        }
        files["config.json"] = config
        files["manifest.json"] = json.dumps([manifest]).encode()
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        target.seek(0)
        return target

    def list_images(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        self._call("list_images")
        check_filters(filters, "reference")
        wanted = (filters or {}).get("reference")
        with self._lock:
            return [
                {
                    "Id": image["Id"],
                    "RepoTags": list(image["RepoTags"]),
                    "RepoDigests": list(image["RepoDigests"]),
                }
                for image in self._images.values()
                if wanted is None
                or any(
                    fnmatch.fnmatchcase(name, pattern)
                    for tag in image["RepoTags"]
                    for name in (tag, tag.rpartition(":")[0])
                    for pattern in wanted
                )
            ]

    def inspect_image(self, ref: str) -> dict[str, Any]:
        self._call("inspect_image")
        with self._lock:
            return copy.deepcopy(self._find_image(ref))

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        self._call("load_image")
        loaded = formats.unpacked(b"".join(chunks))
        messages = []
        with self._lock:
            for config, layers, tags in loaded:
                image = self._add(config, layers)
                for tag in tags:
                    self._tag(image, tag)
                    messages.append({"stream": f"Loaded image: {tag}\n"})
                if not tags:
                    messages.append({"stream": f"Loaded image ID: {image['Id']}\n"})
                self._emit_image("load", image["Id"])
        return messages

    def pull_image(
        self, repository: str, digest: str, auth: tuple[str, str] | None = None
    ) -> None:
        self._call("pull_image")
        reference = f"{repository}@{digest}"
        if reference not in self.registry:
            raise errors.for_status(
                404,
                f"manifest for {reference} not found",
                missing=errors.ImageNotFound,
            )
        [(config, layers, _)] = formats.unpacked(self.registry[reference])
        with self._lock:
            image = self._add(config, layers)
            if reference not in image["RepoDigests"]:
                image["RepoDigests"].append(reference)
            self._emit_image("pull", reference)

    def tag_image(self, ref: str, repo: str, tag: str) -> None:
        self._call("tag_image")
        with self._lock:
            image = self._find_image(ref)
            self._tag(image, f"{repo}:{tag}")
            self._emit_image("tag", image["Id"], f"{repo}:{tag}")

    def remove_image(
        self, ref: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        self._call("remove_image")
        with self._lock:
            image = self._find_image(ref)
            names = [*image["RepoTags"], *image["RepoDigests"]]
            name = ref if "@" in ref else formats.with_tag(ref)
            by_name = name in names
            left = [n for n in names if by_name and n != name]
            users = [c for c in self._containers.values() if c["Image"] == image["Id"]]
            if not by_name and any(c["State"]["Running"] for c in users):
                raise errors.for_status(
                    409, f"conflict: unable to delete {ref} (cannot be forced)"
                )
            if not force and (
                (users and not left) or (not by_name and len(image["RepoTags"]) > 1)
            ):
                raise errors.for_status(
                    409, f"conflict: unable to remove {ref} (must force): it is in use"
                )
            for kind in ("RepoTags", "RepoDigests"):
                image[kind] = [n for n in image[kind] if n in left]
            self._emit_image("untag", image["Id"])
            if not left and not users:
                del self._images[image["Id"]]
                self._emit_image("delete", image["Id"])
