# SPDX-License-Identifier: Apache-2.0
"""A stand-in for Manila on loopback: what Nova calls of its API, in this process."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http import server
from typing import Any

from oslo_utils import uuidutils

from cloud import credentials
from cloud import settings
from tests.cloud import services

PORT = 8786
URL = f"http://127.0.0.1:{PORT}/v2"

_NOVA = f"""\
[manila]
auth_url = {settings.AUTH_URL}
auth_type = password
user_domain_name = Default
project_domain_name = Default
project_name = service
username = nova
password = {{password}}

[vnc]
"""

_VERSION = {
    "id": "v2.0",
    "status": "CURRENT",
    "version": "2.85",
    "min_version": "2.0",
    "links": [{"rel": "self", "href": f"{URL}/"}],
}


class Manila:
    """Shares, and who may use them.

    :ivar exports: path of each share, by its ID
    :ivar access: addresses that have access to a share, by its ID and that of the rule
    """

    def __init__(self) -> None:
        self.exports: dict[str, str] = {}
        self.access: dict[tuple[str, str], dict[str, Any]] = {}

    def create(self, storage: str) -> str:
        """Return the ID of a new share, whose export is its ID."""
        share_id = uuidutils.generate_uuid()
        self.exports[share_id] = f"{storage}:/{share_id}"
        return share_id

    def get(self, words: list[str]) -> dict[str, Any] | None:
        """Return the body of a response to GET, None if there is no such thing."""
        match words:
            case ["shares", share_id] if share_id in self.exports:
                found = {"id": share_id, "status": "available", "share_proto": "NFS"}
                return {"share": found | {"project_id": "1", "size": 1}}
            case ["shares", share_id, "export_locations"]:
                path = {"id": share_id, "path": self.exports[share_id]}
                return {"export_locations": [path | {"preferred": True}]}
            case ["share-access-rules", share_id]:
                rules = [r for (of, _), r in self.access.items() if of == share_id]
                return {"access_list": rules}
        return None

    def post(self, words: list[str], body: dict[str, Any]) -> dict[str, Any] | None:
        """Return the body of a response to POST, None if there is none."""
        [_, share_id, _] = words
        if "deny_access" in body:
            del self.access[share_id, body["deny_access"]["access_id"]]
            return None
        rule_id = uuidutils.generate_uuid()
        rule = body["allow_access"] | {"id": rule_id, "state": "active"}
        self.access[share_id, rule_id] = rule
        return {"access": rule}


@contextlib.contextmanager
def running(identity: Any) -> Iterator[Manila]:
    """Serve Manila's API during the block, with Nova configured to use it.

    :param identity: of the administrator's connection
    """
    manila = Manila()
    # The handler needs a class, not an object.
    handler = type("Handler", (_Handler,), {"manila": manila})
    listener = server.ThreadingHTTPServer(("127.0.0.1", PORT), handler)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    configuration = _NOVA.format(password=credentials.passwords()["service"])
    try:
        with (
            _in_catalog(identity),
            services.configured(
                services.NOVA_CONF,
                "[vnc]\n",
                configuration,
                "nova-api",
                "nova-compute",
            ),
        ):
            yield manila
    finally:
        listener.shutdown()
        listener.server_close()


@contextlib.contextmanager
def _in_catalog(identity: Any) -> Iterator[None]:
    service = identity.create_service(type="shared-file-system", name="manila")
    try:
        for interface in "public", "internal":
            identity.create_endpoint(
                service_id=service.id,
                interface=interface,
                region_id="RegionOne",
                url=URL,
            )
        yield
    finally:
        # The endpoints go with it.
        identity.delete_service(service)


class _Handler(server.BaseHTTPRequestHandler):
    manila: Manila

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        words = path.strip("/").split("/")[1:]
        if not words:
            self._answer(200, {"versions": [_VERSION]})
            return
        if query:
            words.append(query.partition("share_id=")[2].partition("&")[0])
        body = self.manila.get(words)
        self._answer(200 if body else 404, body)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        words = self.path.strip("/").split("/")[1:]
        body = self.manila.post(words, json.loads(self.rfile.read(length)))
        self._answer(200 if body else 202, body)

    def _answer(self, code: int, body: dict[str, Any] | None) -> None:
        content = json.dumps(body or {}).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""
