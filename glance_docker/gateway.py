# SPDX-License-Identifier: Apache-2.0
"""The images in Glance that are an engine's: found, made, shared, removed."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import secrets
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1.adapter import Adapter

from glance_docker import listing
from glance_docker.listing import Access
from glance_docker.listing import Key

_PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
_PAGE = 1000


class CatalogError(Exception):
    """Glance, or Keystone on the way to it, refused or failed."""


@dataclasses.dataclass
class Found:
    """An image that Glance has.

    :ivar status: Glance's: ``queued`` until it has its location
    """

    id: str
    status: str
    name: str
    visibility: str
    protected: bool


class Catalog:
    """What one engine has in Glance. May be used from several threads.

    All methods raise :class:`CatalogError`.

    :param glance: with a token whose roles are ``service``, which Glance asks of
        who adds a location, and ``admin``, which it asks of who publishes
    :param engine: its name in locations
    """

    def __init__(self, glance: Adapter, engine: str) -> None:
        self._glance = glance
        self._engine = engine

    def images(self, statuses: Sequence[str] = ()) -> dict[Key, Found]:
        """Return the images that were made here, by any process ever.

        Those that somebody has hidden (``os_hidden``), too. By more than what is
        written on them: an image of the same owner and with the same properties
        has not the same id.

        :param statuses: Glance's, of those to return; all when none is given
        """
        found = {}
        status = f"&status=in:{','.join(statuses)}" if statuses else ""
        with _translated():
            ours = (
                f"limit={_PAGE}&owner={self._glance.get_project_id()}"
                f"&{listing.ENGINE}={self._engine}{status}"
            )
            # Glance lists these or those.
            for hidden in ("true", "false"):
                for image in self._list(f"{ours}&os_hidden={hidden}"):
                    if key := self._key(image):
                        found[key] = _found(image)
        return found

    def _list(self, query: str) -> Iterator[Mapping[str, Any]]:
        url = f"/images?{query}"
        while url:
            page = self._glance.get(url).json()
            yield from page["images"]
            url = page.get("next", "").removeprefix("/v2")

    def _key(self, image: Mapping[str, Any]) -> Key | None:
        name, image_id = (image.get(k, "") for k in (listing.NAME, listing.IMAGE_ID))
        key = Key(name, image_id)
        serial = image.get(listing.SERIAL, "")
        made = listing.glance_id(self._engine, key, serial) == image["id"]
        return key if made else None

    def create(self, key: Key, access: Access, image: Mapping[str, Any]) -> Found:
        """Make an image, which has no location yet.

        :param image: what the engine says of it
        """
        body = {
            "name": listing.shown_name(key.name),
            "container_format": "docker",
            "disk_format": "raw",
            "visibility": access.visibility,
            "protected": True,
        }
        with _translated():
            for serial in _serials():
                identity = listing.glance_id(self._engine, key, serial)
                details = listing.properties(self._engine, key, image, serial)
                found = self._make(key, {"id": identity, **body, **details})
                if found:
                    break
            else:
                raise CatalogError(f"Glance takes no id for {key.name}")
        self._share(found.id, access)
        return found

    def _make(self, key: Key, body: Mapping[str, Any]) -> Found | None:
        """Make an image, or find that another process has just made it.

        :returns: None when Glance refuses the id: it is a stranger's, or of an image
            that is deleted, as Glance gives none twice
        """
        with contextlib.suppress(exceptions.Conflict):
            return _found(self._glance.post("/images", json=body).json())
        with contextlib.suppress(exceptions.NotFound):
            image = self._glance.get(f"/images/{body['id']}").json()
            owner = self._glance.get_project_id()
            if image["owner"] == owner and self._key(image) == key:
                return _found(image)
        return None

    def locate(self, image: Found, url: str) -> None:
        """Say where the image is; Glance makes it active, soon after.

        :param url: of :mod:`docker_engine.location`
        """
        with _translated(), contextlib.suppress(exceptions.Conflict):
            # A conflict: it has one by now.
            self._glance.post(f"/images/{image.id}/locations", json={"url": url})

    def correct(self, image: Found, key: Key, access: Access) -> None:
        """Have an image be named, seen and protected as it should be."""
        should = {
            "name": listing.shown_name(key.name),
            "visibility": access.visibility,
            "protected": True,
        }
        changes = {k: v for k, v in should.items() if getattr(image, k) != v}
        if changes:
            with _translated():
                self._update(image.id, changes)
            for name, value in changes.items():
                setattr(image, name, value)
        self._share(image.id, access)

    def remove(self, image: Found) -> None:
        """Delete an image; one that is not there any more is no error."""
        with _translated(), contextlib.suppress(exceptions.NotFound):
            self._update(image.id, {"protected": False})
            self._glance.delete(f"/images/{image.id}")

    def _update(self, image_id: str, values: Mapping[str, Any]) -> None:
        patch = [
            {"op": "replace", "path": f"/{name}", "value": value}
            for name, value in values.items()
        ]
        self._glance.patch(
            f"/images/{image_id}", data=json.dumps(patch), headers=_PATCH
        )

    def _share(self, image_id: str, access: Access) -> None:
        """Have exactly these projects see a shared image."""
        if access.visibility != "shared":
            return
        url = f"/images/{image_id}/members"
        with _translated():
            members = self._glance.get(url).json()["members"]
            status = {member["member_id"]: member["status"] for member in members}
            for project in status.keys() - set(access.projects):
                self._glance.delete(f"{url}/{project}")
            for project in access.projects:
                if project not in status:
                    self._glance.post(url, json={"member": project})
                if status.get(project) != "accepted":
                    # So that it is in the project's list without being asked for.
                    self._glance.put(f"{url}/{project}", json={"status": "accepted"})


def _found(image: Mapping[str, Any]) -> Found:
    return Found(*(image[field.name] for field in dataclasses.fields(Found)))


def _serials() -> Iterable[str]:
    yield ""
    for _ in itertools.repeat(None, 5):
        yield secrets.token_hex(4)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except exceptions.ClientException as error:
        raise CatalogError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        # Something in front of it says 200, and has a page for people.
        raise CatalogError(f"That is not what Glance answers: {error!r}") from error
