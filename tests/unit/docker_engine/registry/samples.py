# SPDX-License-Identifier: Apache-2.0
"""A mock registry, and the manifests it serves."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib import parse

from docker_engine.registry import Descriptor

HOST = "registry.example.org"

URL = f"https://{HOST}/v2/team/app"

AUTH = ("nova", "pä:ss")

BASIC = "Basic " + base64.b64encode("nova:pä:ss".encode()).decode()

REALM = "https://auth.example.org/token"

BEARER = f'Bearer realm="{REALM}",service="reg",scope="repository:team/app:pull"'

SCHEMA2 = "application/vnd.docker.distribution.manifest.v2+json"

OCI = "application/vnd.oci.image.manifest.v1+json"

LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"

CONFIG = "application/vnd.docker.container.image.v1+json"

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

TAR = "application/vnd.docker.image.rootfs.diff.tar"


def digest_of(content):
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def part(content, kind, **more):
    return {
        "mediaType": kind,
        "digest": digest_of(content),
        "size": len(content),
        **more,
    }


def manifest(kind=SCHEMA2, **changes):
    return {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": part(b"{}", CONFIG),
        "layers": [part(b"one", GZIP), part(b"two", TAR)],
        **changes,
    }


def serve(http, content, kind=SCHEMA2, reference="1.0", **answer):
    """Put a manifest into the mock registry and return its digest."""
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    http.get(
        f"{URL}/manifests/{reference}",
        content=content,
        headers={"Content-Type": kind},
        **answer,
    )
    return digest_of(content)


def asked(http):
    """Return the host and path, and the Authorization header, of each request."""
    return [
        (
            parse.urlsplit(request.url).netloc + parse.urlsplit(request.url).path,
            request.headers.get("Authorization"),
        )
        for request in http.request_history
    ]


def challenge(http, header, right, path="/manifests/1.0", content=None):
    """Let the mock registry require authorization for a path."""
    body = json.dumps(manifest()).encode() if content is None else content

    def answer(request, context):
        if request.headers.get("Authorization") not in right:
            context.status_code = 401
            context.headers["WWW-Authenticate"] = header
            return b""
        context.headers["Content-Type"] = SCHEMA2
        return body

    http.get(URL + path, content=answer)


ONE = Descriptor(digest_of(b"one"), 3, TAR)
