# SPDX-License-Identifier: Apache-2.0
"""Valid and invalid image archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import pytest

from docker_engine.archive import ArchiveError
from docker_engine.archive import ImageArchive

TAG = "nova-glance/8f6d1c9e-3d3c-4f0c-9d11-54be4f0bd9dd:latest"

FOREIGN = "library/debian:latest"

Members = dict[str, bytes | tarfile.TarInfo]


def tar(members: Members, format: int = tarfile.PAX_FORMAT) -> bytes:
    """Return an archive of files (bytes) and other members (TarInfo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as file:
        for name, member in members.items():
            if isinstance(member, tarfile.TarInfo):
                member.name = name
                file.addfile(member)
            else:
                header = tarfile.TarInfo(name)
                header.size = len(member)
                file.addfile(header, io.BytesIO(member))
    return out.getvalue()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type = kind
    info.linkname = target
    return info


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


LAYERS = [tar({"bin/sh": b"#!"}), tar({"etc/motd": b"hello\n" * 1000})]


def config(layers: Iterable[bytes] = LAYERS, **values: Any) -> bytes:
    return json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": {"Cmd": ["sh"], "Labels": {"a": "1", "A": "2"}},
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{sha256(layer)}" for layer in layers],
            },
        }
        | values
    ).encode()


def classic(layers: list[bytes] = LAYERS, image: bytes | None = None) -> Members:
    """Return the members of an archive as Docker before 25 saves it."""
    image = config(layers) if image is None else image
    members: Members = {}
    names = []
    for number, layer in enumerate(layers):
        place = sha256(b"%d" % number)
        names.append(f"{place}/layer.tar")
        members |= {
            place: link("", tarfile.DIRTYPE),
            f"{place}/VERSION": b"1.0",
            f"{place}/json": json.dumps({"id": place}).encode(),
            f"{place}/layer.tar": layer,
        }
    name = f"{sha256(image)}.json"
    manifest = [{"Config": name, "RepoTags": [FOREIGN], "Layers": names}]
    repositories = {"library/debian": {"latest": sha256(b"0")}}
    return members | {
        name: image,
        "manifest.json": json.dumps(manifest).encode(),
        "repositories": json.dumps(repositories).encode(),
    }


def oci(
    layers: list[bytes] = LAYERS,
    image: bytes | None = None,
    blobs: list[bytes] | None = None,
) -> Members:
    """Return the members of an archive as Docker 25 and later saves it.

    :param blobs: the layers as stored, if they are compressed
    """
    image = config(layers) if image is None else image
    blobs = layers if blobs is None else blobs
    names = [f"blobs/sha256/{sha256(blob)}" for blob in blobs]
    name = f"blobs/sha256/{sha256(image)}"
    members: Members = {name: image, **dict(zip(names, blobs, strict=True))}
    oci_manifest = json.dumps({"config": {"digest": f"sha256:{sha256(image)}"}})
    index = {
        "manifests": [
            {
                "digest": f"sha256:{sha256(oci_manifest.encode())}",
                "annotations": {
                    "io.containerd.image.name": f"docker.io/{FOREIGN}",
                    "org.opencontainers.image.ref.name": "latest",
                },
            }
        ]
    }
    manifest = [{"Config": name, "RepoTags": [FOREIGN], "Layers": names}]
    return members | {
        f"blobs/sha256/{sha256(oci_manifest.encode())}": oci_manifest.encode(),
        "index.json": json.dumps(index).encode(),
        "manifest.json": json.dumps(manifest).encode(),
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
    }


def endless(data: bytes) -> bytes:
    """Return the archive without its end-of-archive marker."""
    data = data.rstrip(b"\0")
    return data + bytes(-len(data) % 512)


def manifest(members: Members, **values: Any) -> Members:
    """Return the members with other values in the manifest."""
    content = members["manifest.json"]
    assert isinstance(content, bytes)
    entry = json.loads(content)[0] | values
    return members | {"manifest.json": json.dumps([entry]).encode()}


def chunks(data: bytes, size: int = 4096) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def rewrite(data: bytes, size: int = 4096) -> bytes:
    return b"".join(ImageArchive(chunks(data, size), TAG, "amd64"))


def read(data: bytes) -> dict[str, bytes]:
    """Return the members of an archive, which must all be plain files of root."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as file:
        for info in file:
            assert info.isreg() and info.uid == info.gid == 0 and info.mode == 0o644
            content = file.extractfile(info)
            assert content is not None and info.name not in found
            found[info.name] = content.read()
    return found


def loaded(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return what an engine loads from a new archive: configuration, layers."""
    members = read(data)
    [entry] = json.loads(members["manifest.json"])
    assert entry["RepoTags"] == [TAG]
    assert set(members) >= {"manifest.json", "config.json", *entry["Layers"]}
    assert entry["Config"] == "config.json"
    return members["config.json"], [members[name] for name in entry["Layers"]]


def refusal(members: Members | bytes, **options: Any) -> str:
    data = members if isinstance(members, bytes) else tar(members)
    with pytest.raises(ArchiveError) as caught:
        rewrite(data, **options)
    return str(caught.value)


def layer_refusal(layer: bytes) -> str:
    return refusal(oci([layer]))
