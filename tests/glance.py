# SPDX-License-Identifier: Apache-2.0
"""A Glance in memory, with as much of the Image API v2 as the gateway uses."""

from __future__ import annotations

import contextlib
import http.server
import json
import re
import threading
import uuid
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from urllib import parse

from keystoneauth1 import adapter
from keystoneauth1 import session
from keystoneauth1 import token_endpoint

PROJECT = "5e" * 16

_PATH = re.compile(
    r"/v2/images(?:/(?P<image>[^/]+)(?:/(?P<part>\w+)(?:/(?P<member>[^/]+))?)?)?"
)
# The largest page, whatever a client asks for: api_limit_max.
_MAX_LIMIT = 1000
_UNPROTECTED = {"visibility": "shared", "protected": False, "os_hidden": False}


class Refused(Exception):
    """An error response; the argument is its HTTP status."""


class Glance(http.server.ThreadingHTTPServer):
    """A server with images, and with ways to fail.

    :ivar images: all images, by ID
    :ivar deleted: IDs of deleted images
    :ivar members: the members' status by project, for each image ID
    :ivar locations: the URLs, for each image ID
    :ivar data: the uploaded data, by image ID
    :ivar calls: the requests: method and path, without the query
    :ivar fails: returns the HTTP status with which a request fails, given its method
        and path; 0 when it does not fail
    :ivar importing: whether images that get a location stay ``importing``
    :ivar rejects: why the task that checks a location fails; empty when it succeeds
    """

    daemon_threads = True
    request_queue_size = 50

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.images: dict[str, dict[str, Any]] = {}
        self.deleted: set[str] = set()
        self.members: dict[str, dict[str, str]] = {}
        self.locations: dict[str, list[str]] = {}
        self.data: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.fails: Callable[[str, str], int] = lambda method, path: 0
        self.importing = False
        self.rejects = ""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def adapter(self, project: str = PROJECT) -> adapter.Adapter:
        """Return an adapter for a user of a project."""
        url = f"{self.url}/v2"
        with_token = session.Session(auth=_Auth(url, project))
        return adapter.Adapter(with_token, endpoint_override=url)

    @property
    def names(self) -> list[str]:
        """The names of all images, sorted."""
        return sorted(image["name"] for image in self.images.values())

    @property
    def changes(self) -> list[str]:
        """The requests that are not GET."""
        return [call for call in self.calls if not call.startswith("GET")]

    def named(self, name: str) -> dict[str, Any]:
        [found] = (image for image in self.images.values() if image["name"] == name)
        return found

    def add(self, **values: Any) -> dict[str, Any]:
        """Add an image that somebody has created."""
        image = {
            "id": str(uuid.uuid4()),
            "owner": PROJECT,
            "name": "theirs",
            "status": "active",
            **_UNPROTECTED,
            **values,
        }
        self.images[image["id"]] = image
        return image

    # The API

    def answer(self, method: str, url: str, project: str, body: Any) -> tuple[int, Any]:
        parts = parse.urlsplit(url)
        with self.lock:
            self.calls.append(f"{method} {parts.path}")
            if status := self.fails(method, parts.path):
                raise Refused(status)
            found = _PATH.fullmatch(parts.path)
            if not found:
                raise Refused(404)
            image_id, part, member = found.group("image", "part", "member")
            if image_id is None:
                if method == "POST":
                    return self._create(project, body)
                return 200, self._list(dict(parse.parse_qsl(parts.query)))
            if image_id not in self.images:
                raise Refused(404)
            image = self.images[image_id]
            if part == "members":
                return self._members(method, image, member, body)
            if part == "locations":
                return self._locations(method, image, body)
            if part == "tasks":
                return 200, {"tasks": self._tasks()}
            if part == "file":
                self.data[image_id] = body
                image["status"] = "active"
                return 204, None
            return self._image(method, image, body)

    def _create(self, project: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body.get("id") in self.images.keys() | self.deleted:
            raise Refused(409)
        if len(body["name"]) > 255 or not all(
            isinstance(value, str) and len(value) < 2**16
            for name, value in body.items()
            if name != "protected"
        ):
            raise Refused(400)
        return 201, self.add(**{**body, "owner": project, "status": "queued"})

    def _list(self, query: dict[str, str]) -> dict[str, Any]:
        limit = min(int(query.pop("limit", "25")), _MAX_LIMIT)
        marker = query.pop("marker", None)
        statuses = query.pop("status", "").removeprefix("in:")
        hidden = query.pop("os_hidden", "false")
        found = [
            image
            for image in self.images.values()
            if (not statuses or image["status"] in statuses.split(","))
            and hidden == json.dumps(image["os_hidden"])
            and all(image.get(name) == value for name, value in query.items())
        ]
        if marker:
            ids = [image["id"] for image in found]
            found = found[ids.index(marker) + 1 :]
        answer: dict[str, Any] = {"images": found[:limit]}
        if len(found) > limit:
            again = query | {
                "os_hidden": hidden,
                "limit": str(limit),
                "marker": found[limit - 1]["id"],
            }
            if statuses:
                again["status"] = f"in:{statuses}"
            answer["next"] = f"/v2/images?{parse.urlencode(again)}"
        return answer

    def _image(self, method: str, image: Any, body: Any) -> tuple[int, Any]:
        if method == "PATCH":
            for change in body:
                assert change["op"] == "replace"
                image[change["path"].lstrip("/")] = change["value"]
        elif method == "DELETE":
            if image["protected"]:
                raise Refused(403)
            del self.images[image["id"]]
            self.deleted.add(image["id"])
            return 204, None
        return 200, image

    def _members(
        self, method: str, image: Any, member: str | None, body: Any
    ) -> tuple[int, Any]:
        if image["visibility"] != "shared":
            raise Refused(403)
        members = self.members.setdefault(image["id"], {})
        if method == "POST":
            if body["member"] in members:
                raise Refused(409)
            members[body["member"]] = "pending"
        elif member:
            if member not in members:
                raise Refused(404)
            if method == "DELETE":
                del members[member]
                return 204, None
            members[member] = body["status"]
        found = [{"member_id": m, "status": s} for m, s in members.items()]
        return 200, {"members": found}

    def _locations(self, method: str, image: Any, body: Any) -> tuple[int, Any]:
        locations = self.locations.setdefault(image["id"], [])
        if method == "GET":
            return 200, [{"url": url, "metadata": {}} for url in locations]
        if image["status"] != "queued":
            raise Refused(409)
        locations.append(body["url"])
        if not self.rejects:
            image["status"] = "importing" if self.importing else "active"
        return 202, image

    def _tasks(self) -> list[dict[str, str]]:
        if self.rejects:
            return [{"status": "failure", "message": self.rejects}]
        return [{"status": "processing", "message": ""}]


def read_chunked(body: Any) -> bytes:
    """Read a request's body whose transfer encoding is ``chunked``.

    :raises ValueError: when it breaks off
    """
    content = b""
    while size := int(body.readline(), 16):
        content += body.read(size)
        body.readline()
    body.readline()
    return content


@contextlib.contextmanager
def running() -> Iterator[Glance]:
    with Glance() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Auth(token_endpoint.Token):
    """Authentication whose token is the project's ID."""

    def __init__(self, endpoint: str, project: str) -> None:
        super().__init__(endpoint, project)
        self._project = project

    def get_project_id(self, session: Any, **kwargs: Any) -> str:
        return self._project


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Glance
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        try:
            content = self._content()
        except ValueError:  # the client broke off an upload
            self.close_connection = True
            return
        octets = self.headers.get("Content-Type") == "application/octet-stream"
        body = content if octets else json.loads(content or "null")
        project = self.headers.get("X-Auth-Token", "")
        kind = "application/json"
        try:
            status, answer = self.server.answer(self.command, self.path, project, body)
            response = b"" if answer is None else json.dumps(answer).encode()
        except Refused as error:
            kind, status, response = "text/html", error.args[0], b"<html></html>"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(response)))
        self.end_headers()
        self.wfile.write(response)

    do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _content(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return read_chunked(self.rfile)

    def log_message(self, *args: Any) -> None:
        """Log nothing."""
