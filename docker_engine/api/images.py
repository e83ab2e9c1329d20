# SPDX-License-Identifier: Apache-2.0
"""Images: load, save, pull, tag and remove."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any

from docker_engine import errors
from docker_engine.api.base import Endpoints
from docker_engine.api.base import Filters
from docker_engine.api.base import filter_query
from docker_engine.api.base import flag
from docker_engine.api.base import path
from docker_engine.streams.bytes import ByteStream
from docker_engine.streams.bytes import UploadError
from docker_engine.streams.bytes import upload
from docker_engine.streams.events import progress
from docker_engine.transport.http import LONG_TIMEOUT


class ImagesAPI(Endpoints):
    """Endpoints under "Image".

    Those that take a ``ref`` (a name or an id) raise :class:`errors.ImageNotFound` if
    there is no such image.
    """

    def list_images(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        """GET /images/json"""
        return self._transport.get("/images/json", filter_query(filters))

    def inspect_image(self, ref: str) -> dict[str, Any]:
        """GET /images/{ref}/json"""
        return self._transport.get(
            path("images", ref, "json"), missing=errors.ImageNotFound
        )

    def save_image(self, ref: str) -> ByteStream:
        """GET /images/{ref}/get: an image's archive, as ``docker save`` writes it

        The engine first copies all layers to its temporary directory, and removes the
        copy when the stream is closed.
        """
        return ByteStream(
            self._transport.stream(
                "GET",
                path("images", ref, "get"),
                {},
                missing=errors.ImageNotFound,
                timeout=(self._transport.connect_timeout, LONG_TIMEOUT),
            )
        )

    def load_image(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        """POST /images/load

        :param chunks: a ``docker save`` archive. If iterating raises, the request is
            broken off, the engine drops what it has received, and the exception is
            raised here unchanged.
        :returns: the engine's progress messages
        :raises EngineError: also if the engine reports a failure in them
        """
        try:
            return self._load(chunks)
        except UploadError as caught:
            error = caught.error
        raise error

    def _load(self, chunks: Iterable[bytes]) -> list[dict[str, Any]]:
        read_timeout = self._transport.read_timeout
        answer = self._transport.request(
            "POST",
            "/images/load",
            {"quiet": "1"},
            data=upload(chunks),
            headers={"Content-Type": "application/x-tar"},
            stream=True,
            # requests applies the first one to sending as well, which waits while
            # the engine writes to its disk.
            timeout=(read_timeout, max(read_timeout, LONG_TIMEOUT)),
            repeat=False,
        )
        return progress(answer)

    def pull_image(
        self, repository: str, digest: str, auth: tuple[str, str] | None = None
    ) -> None:
        """POST /images/create: pull an image from a registry

        The engine verifies the digest, and fetches only the layers that it lacks.

        :param repository: with its registry, ``host:port/name``
        :param digest: ``sha256:…``
        :param auth: user name and password for the registry
        :raises ImageNotFound: if the registry does not have it, or hides it
        :raises DockerError: also if the registry is unreachable or not trusted
        """
        headers = {}
        if auth:
            user, password = auth
            login = json.dumps({"username": user, "password": password}).encode()
            headers["X-Registry-Auth"] = base64.urlsafe_b64encode(login).decode()
        read_timeout = max(self._transport.read_timeout, LONG_TIMEOUT)
        answer = self._transport.request(
            "POST",
            "/images/create",
            {"fromImage": repository, "tag": digest},
            headers=headers,
            stream=True,
            missing=errors.ImageNotFound,
            timeout=(self._transport.connect_timeout, read_timeout),
            repeat=False,
        )
        progress(answer)

    def tag_image(self, ref: str, repo: str, tag: str) -> None:
        """POST /images/{ref}/tag"""
        self._transport.request(
            "POST",
            path("images", ref, "tag"),
            {"repo": repo, "tag": tag},
            missing=errors.ImageNotFound,
        )

    def remove_image(
        self, ref: str, *, force: bool = False, timeout: float | None = None
    ) -> None:
        """DELETE /images/{ref}: remove a tag, and with its last tag the image

        :param timeout: seconds to wait, after which the engine continues all the same;
            None for the usual
        :raises Conflict: if a container uses it
        """
        self._transport.request(
            "DELETE",
            path("images", ref),
            {"force": flag(force)},
            missing=errors.ImageNotFound,
            timeout=self._within(timeout),
        )
