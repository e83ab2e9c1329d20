# SPDX-License-Identifier: Apache-2.0
"""The images in Glance that represent the tags of one engine."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from glance_docker import image_metadata
from glance_docker.gateway import Conflict
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.gateway import NotFound
from glance_docker.gateway import checked_response
from glance_docker.image_metadata import Key
from glance_docker.sync.access_rules import Access

# Image IDs to try until Glance accepts one.
_ATTEMPTS = 6


@dataclasses.dataclass
class ListedImage:
    """An image in Glance.

    :ivar status: Glance's; ``queued`` while the image has no location
    """

    id: str
    status: str
    name: str
    visibility: str
    protected: bool


class EngineImages:
    """The images in Glance that represent the tags of one engine.

    Instances may be shared between threads. All methods raise
    :class:`~glance_docker.gateway.GatewayError`.

    :param gateway: to Glance, with a user who has the role ``service``, which
        Glance requires for adding a location, and the role ``admin``, which it
        requires for publishing an image
    :param engine: the engine's name in locations
    """

    def __init__(self, gateway: ImageGateway, engine: str) -> None:
        self._gateway = gateway
        self._engine = engine

    def fetch(self, statuses: Sequence[str] = ()) -> dict[Key, ListedImage]:
        """Return the images that this or an earlier process created.

        They include hidden ones (``os_hidden``). An image of the same project with
        the same properties is not taken for one of them: its ID differs.

        :param statuses: limits the result to images with one of these; empty means
            all
        """
        query = {"owner": self._gateway.project_id, image_metadata.ENGINE: self._engine}
        if statuses:
            query["status"] = f"in:{','.join(statuses)}"
        images = {}
        # Glance lists either the hidden images or the others.
        for hidden in ("true", "false"):
            for image in self._gateway.images({**query, "os_hidden": hidden}):
                with checked_response():
                    if key := self._key(image):
                        images[key] = _listed(image)
        return images

    def _key(self, image: Mapping[str, Any]) -> Key | None:
        name, image_id = (
            image.get(k, "") for k in (image_metadata.NAME, image_metadata.IMAGE_ID)
        )
        key = Key(name, image_id)
        serial = image.get(image_metadata.SERIAL, "")
        own = image_metadata.glance_id(self._engine, key, serial) == image["id"]
        return key if own else None

    def create(self, key: Key, access: Access, image: Mapping[str, Any]) -> ListedImage:
        """Create an image that has no location yet.

        :param image: the response of "GET /images/{name}/json"
        """
        values = {
            "name": image_metadata.shown_name(key.name),
            "visibility": access.visibility,
            "protected": True,
        }
        for serial in _serials():
            identity = image_metadata.glance_id(self._engine, key, serial)
            properties = image_metadata.properties(self._engine, key, image, serial)
            listed = self._create(key, {"id": identity, **values, **properties})
            if listed:
                break
        else:
            raise GatewayError(f"Glance rejected {_ATTEMPTS} image IDs for {key.name}")
        self._share(listed.id, access)
        return listed

    def _create(self, key: Key, values: Mapping[str, Any]) -> ListedImage | None:
        """Create an image, unless another process has just created the same one.

        :returns: None when Glance rejects the ID: somebody else's image has it, or
            a deleted image had it, as Glance never uses an ID twice
        """
        with contextlib.suppress(Conflict):
            created = self._gateway.create(values)
            with checked_response():
                return _listed(created)
        with contextlib.suppress(NotFound):
            existing = self._gateway.show(values["id"])
            with checked_response():
                if existing["owner"] == self._gateway.project_id:
                    return _listed(existing) if self._key(existing) == key else None
        return None

    def locate(self, image: ListedImage, url: str) -> None:
        """Give an image its location; Glance makes it active soon afterwards.

        :param url: a ``docker://`` URL (see :mod:`docker_engine.location`)
        """
        # A conflict means that the image has its location by now.
        with contextlib.suppress(Conflict):
            self._gateway.add_location(image.id, url)

    def correct(self, image: ListedImage, key: Key, access: Access) -> None:
        """Restore an image's name, visibility, protection and members."""
        expected = {
            "name": image_metadata.shown_name(key.name),
            "visibility": access.visibility,
            "protected": True,
        }
        changes = {k: v for k, v in expected.items() if getattr(image, k) != v}
        if changes:
            self._gateway.update(image.id, changes)
            for name, value in changes.items():
                setattr(image, name, value)
        self._share(image.id, access)

    def remove(self, image: ListedImage) -> None:
        """Delete an image, if it still exists."""
        with contextlib.suppress(NotFound):
            self._gateway.update(image.id, {"protected": False})
            self._gateway.delete(image.id)

    def _share(self, image_id: str, access: Access) -> None:
        if access.visibility == "shared":
            self._gateway.share(image_id, access.projects)


def _listed(image: Mapping[str, Any]) -> ListedImage:
    return ListedImage(*(image[f.name] for f in dataclasses.fields(ListedImage)))


def _serials() -> Iterator[str]:
    """Yield no serial, then ones that nobody can guess and occupy."""
    yield ""
    for _ in itertools.repeat(None, _ATTEMPTS - 1):
        yield secrets.token_hex(4)
