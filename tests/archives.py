# SPDX-License-Identifier: Apache-2.0
"""Archives as ``docker save`` writes them, built without an engine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

BUSYBOX = "/bin/busybox"
APPLETS = (
    "cat echo env grep head hostname httpd id ip kill ls nc ping ps rm sh sleep "
    "tail test touch true wget"
).split()


def tar(members: Mapping[str, bytes | str]) -> bytes:
    """Return a tar archive of files; a str is the target of a symbolic link."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if isinstance(content, str):
                member.type = tarfile.SYMTYPE
                member.linkname = content
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


def members(archive: bytes) -> dict[str, bytes | str]:
    """Return the members of an archive, in the form that :func:`tar` takes."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        return {
            member.name: member.linkname if file is None else file.read()
            for member in source
            for file in [source.extractfile(member)]
        }


def busybox_layer(files: Mapping[str, bytes | str] | None = None) -> bytes:
    """Return a root file system with busybox and the given files."""
    with open(BUSYBOX, "rb") as busybox:
        root: dict[str, bytes | str] = {"bin/busybox": busybox.read()}
    root |= {f"bin/{applet}": "busybox" for applet in APPLETS}
    root["etc/passwd"] = b"root:x:0:0:root:/:/bin/sh\n"
    return tar(root | dict(files or {}))


def devices_layer(numbers: Mapping[str, tuple[int, int]]) -> bytes:
    """Return a layer with nodes of block devices, which everyone may open, in /nodes.

    :param numbers: major and minor number of each, by its name
    """
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as layer:
        for name, (major, minor) in numbers.items():
            member = tarfile.TarInfo(f"nodes/{name}")
            member.type, member.mode = tarfile.BLKTYPE, 0o666
            member.devmajor, member.devminor = major, minor
            layer.addfile(member)
    return target.getvalue()


def archive(
    layers: Sequence[bytes],
    *,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    oci: bool = False,
    architecture: str = "amd64",
) -> bytes:
    """Return the archive of one image.

    :param config: configuration of its containers: ``Cmd``, ``Env``, ...
    :param tags: names of the image in the archive
    :param oci: use the layout of Docker 25 and later, not the classic one
    :param architecture: GOARCH name
    """
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    image = _config(layers, config, architecture)
    digest = hashlib.sha256(image).hexdigest()
    build = _oci if oci else _classic
    return tar(build(image, digest, dict(zip(digests, layers, strict=True)), tags))


def busybox_archive(
    *,
    files: Mapping[str, bytes | str] | None = None,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    oci: bool = False,
    architecture: str = "amd64",
) -> bytes:
    """Return an image with :func:`busybox_layer`; see :func:`archive`."""
    return archive(
        [busybox_layer(files)],
        config=config,
        tags=tags,
        oci=oci,
        architecture=architecture,
    )


def minimal(
    layers: Sequence[bytes], blobs: Mapping[str, bytes], names: Sequence[str]
) -> bytes:
    """Return an archive without anything that an engine does not need.

    :param layers: uncompressed, as the configuration lists them
    :param blobs: layers as stored, by the names of their members
    :param names: of the members that are the image's layers
    """
    manifest = [{"Config": "config.json", "Layers": list(names)}]
    return tar(
        {
            **blobs,
            "config.json": _config(layers),
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def with_layers(
    config: bytes, layers: Sequence[bytes], *, compress: bool = False
) -> tuple[bytes, list[bytes]]:
    """Return the configuration of an image with other layers, and these as stored.

    :param compress: store them compressed with gzip
    """
    found = json.loads(config)
    found["rootfs"]["diff_ids"] = _diff_ids(layers)
    stored = [gzip.compress(layer) for layer in layers] if compress else list(layers)
    return json.dumps(found).encode(), stored


def _config(
    layers: Sequence[bytes],
    config: Mapping[str, Any] | None = None,
    architecture: str = "amd64",
) -> bytes:
    return json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"], **(config or {})},
            "rootfs": {"type": "layers", "diff_ids": _diff_ids(layers)},
        }
    ).encode()


def _diff_ids(layers: Sequence[bytes]) -> list[str]:
    # A layer that occurs often is read once.
    known = {layer: hashlib.sha256(layer).hexdigest() for layer in set(layers)}
    return [f"sha256:{known[layer]}" for layer in layers]


def _classic(
    image: bytes, digest: str, layers: Mapping[str, bytes], tags: Sequence[str]
) -> dict[str, bytes | str]:
    members: dict[str, bytes | str] = {}
    for layer, content in layers.items():
        members[f"{layer}/VERSION"] = b"1.0"
        members[f"{layer}/json"] = json.dumps({"id": layer}).encode()
        members[f"{layer}/layer.tar"] = content
    members[f"{digest}.json"] = image
    paths = [f"{layer}/layer.tar" for layer in layers]
    members["manifest.json"] = _manifest(f"{digest}.json", paths, tags)
    if tags:
        repositories: dict[str, dict[str, str]] = {}
        for tag in tags:
            name, _, version = tag.rpartition(":")
            repositories.setdefault(name, {})[version] = list(layers)[-1]
        members["repositories"] = json.dumps(repositories).encode()
    return members


def _oci(
    image: bytes, digest: str, layers: Mapping[str, bytes], tags: Sequence[str]
) -> dict[str, bytes | str]:
    def blob(name: str) -> str:
        return f"blobs/sha256/{name}"

    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{digest}",
                "size": len(image),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": f"sha256:{layer}",
                    "size": len(content),
                }
                for layer, content in layers.items()
            ],
        }
    ).encode()
    manifest_digest = hashlib.sha256(manifest).hexdigest()
    described = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{manifest_digest}",
        "size": len(manifest),
    }
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {
                **described,
                "annotations": {
                    "io.containerd.image.name": f"docker.io/library/{tag}",
                    "org.opencontainers.image.ref.name": tag.rpartition(":")[2],
                },
            }
            for tag in tags
        ]
        or [described],
    }
    return {
        **{blob(layer): content for layer, content in layers.items()},
        blob(digest): image,
        blob(manifest_digest): manifest,
        "index.json": json.dumps(index).encode(),
        "manifest.json": _manifest(
            blob(digest), [blob(layer) for layer in layers], tags
        ),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }


def _manifest(config: str, layers: Sequence[str], tags: Sequence[str]) -> bytes:
    manifest = [{"Config": config, "RepoTags": list(tags) or None, "Layers": layers}]
    return json.dumps(manifest).encode()
