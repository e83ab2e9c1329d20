# SPDX-License-Identifier: Apache-2.0
"""The gateway to Glance: calls of its Image API v2, with one kind of error."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any
from urllib import parse

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter

from docker_engine.printable import printable

_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_OCTETS = {"Content-Type": "application/octet-stream"}
_PAGE_SIZE = 1000

# Seconds that Glance has to make an image with a new location active.
_ACTIVE_TIMEOUT = 60
_POLL_INTERVAL = 0.2


class GatewayError(Exception):
    """Glance, or Keystone on the way to it, refused a request or failed."""

    def __init__(self, message: str) -> None:
        # Glance quotes names that users chose.
        super().__init__(printable(message))


class NotFound(GatewayError):
    """404: Glance has no such image."""


class Conflict(GatewayError):
    """409: the image ID is taken, or the image's state forbids the change."""


class ImageGateway:
    """The images of one Glance, with the rights of one user.

    Instances may be shared between threads. All methods raise
    :class:`GatewayError`.

    :param glance: an adapter for version 2 of the API
    """

    def __init__(self, glance: Adapter) -> None:
        self._glance = glance

    @property
    def project_id(self) -> str:
        """The user's project, which owns the images that :meth:`create` makes."""
        with _translated_errors():
            return str(self._glance.get_project_id())

    def images(self, query: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
        """Yield the images that match all filters, as Glance describes them.

        Glance API: "GET /v2/images", once per page
        """
        url = f"/images?{parse.urlencode({'limit': str(_PAGE_SIZE), **query})}"
        while url:
            with _translated_errors(), checked_response():
                page = self._glance.get(url).json()
                images = list(page["images"])
                url = page.get("next", "").removeprefix("/v2")
            yield from images

    def show(self, image_id: str) -> Mapping[str, Any]:
        """Return an image as Glance describes it."""
        with _translated_errors(), checked_response():
            return self._glance.get(f"/images/{image_id}").json()

    def create(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Create an image that has no data yet, and return Glance's description.

        :param values: its attributes besides the formats
        :raises Conflict: when the ID is taken, or was an image's that is deleted
        """
        body = {"container_format": "docker", "disk_format": "raw", **values}
        with _translated_errors(), checked_response():
            return self._glance.post("/images", json=body).json()

    def update(self, image_id: str, values: Mapping[str, Any]) -> None:
        """Replace the given attributes of an image."""
        patch = [
            {"op": "replace", "path": f"/{name}", "value": value}
            for name, value in values.items()
        ]
        with _translated_errors():
            self._glance.patch(
                f"/images/{image_id}", data=json.dumps(patch), headers=_PATCH
            )

    def delete(self, image_id: str) -> None:
        """Delete an image that is not protected."""
        with _translated_errors():
            self._glance.delete(f"/images/{image_id}")

    def share(self, image_id: str, projects: Iterable[str]) -> None:
        """Share a ``shared`` image with exactly these projects.

        Glance lists it for each of them without their accepting it first.
        """
        projects = list(projects)
        url = f"/images/{image_id}/members"
        with _translated_errors(), checked_response():
            members = self._glance.get(url).json()["members"]
            status = {member["member_id"]: member["status"] for member in members}
        with _translated_errors():
            for project in status.keys() - set(projects):
                self._glance.delete(f"{url}/{project}")
            for project in projects:
                if project not in status:
                    self._glance.post(url, json={"member": project})
                if status.get(project) != "accepted":
                    self._glance.put(f"{url}/{project}", json={"status": "accepted"})

    def upload(self, image_id: str, chunks: Iterable[bytes]) -> None:
        """Stream the data of an image to Glance.

        Exceptions that ``chunks`` raises pass through.
        """
        with _translated_errors():
            # No retries: chunks can be read only once, so a second attempt would
            # upload an empty image.
            self._glance.put(
                f"/images/{image_id}/file",
                data=chunks,
                headers=_OCTETS,
                allow_reauth=False,
                connect_retries=0,
                status_code_retries=0,
            )

    def add_location(self, image_id: str, url: str) -> None:
        """Give an image its location; Glance then makes it active in a task.

        :param url: a ``docker://`` URL (see :mod:`docker_engine.location`)
        :raises Conflict: when the image has a location
        """
        with _translated_errors():
            try:
                self._glance.post(f"/images/{image_id}/locations", json={"url": url})
            except exceptions.Forbidden as error:
                raise GatewayError(
                    "Glance accepts locations only from users with the role service: "
                    f"{error}"
                ) from error

    def wait_until_active(self, image_id: str) -> None:
        """Wait for the task in which Glance checks a new location.

        :raises GatewayError: also when the task fails or takes too long
        """
        deadline = time.monotonic() + _ACTIVE_TIMEOUT
        while time.monotonic() < deadline:
            with _translated_errors(), checked_response():
                if self.show(image_id)["status"] == "active":
                    return
                tasks = self._glance.get(f"/images/{image_id}/tasks").json()["tasks"]
                failed = [t["message"] for t in tasks if t["status"] == "failure"]
            if failed:
                raise GatewayError(f"Glance rejected the location: {failed[0]}")
            time.sleep(_POLL_INTERVAL)
        raise GatewayError(
            f"Glance did not make image {image_id} active within {_ACTIVE_TIMEOUT} s"
        )


@contextlib.contextmanager
def checked_response() -> Iterator[None]:
    """Raise :class:`GatewayError` when the block finds a response malformed.

    A proxy in front of Glance may answer 200 with a page for people.
    """
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise GatewayError(f"Unexpected response from Glance: {error!r}") from error


@contextlib.contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except exceptions.NotFound as error:
        raise NotFound(f"Glance: {error}") from error
    except exceptions.Conflict as error:
        raise Conflict(f"Glance: {error}") from error
    except exceptions.ClientException as error:
        raise GatewayError(f"Glance: {error}") from error
