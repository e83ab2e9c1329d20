# SPDX-License-Identifier: Apache-2.0
"""Removes images from the engine that no server has used for some time.

Under the options that Nova has for it, ``[image_cache]``. Only names that
:mod:`images` has given are taken: an image that somebody else has put on the
engine, or has given one more name, stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from nova import conf as nova_conf
from nova import objects
from oslo_concurrency import lockutils
from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from nova_docker.errors import translated
from nova_docker.image import store

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)


class ImageCache:
    """Remembers since when an image has not been used.

    That begins anew with nova-compute: the engine knows no such time, and an
    image too long on a disk does less harm than one that is missed.
    """

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._unused_since: dict[str, float] = {}  # by Glance id

    def prune(self, instances: Iterable[objects.Instance]) -> None:
        """Remove what no server has used for as long as Nova's options say.

        Engine calls: "GET /images/json", and "DELETE /images/{name}" for each
        image that goes.

        :param instances: all servers of the host
        :raises NovaException: when the engine fails
        """
        if not CONF.image_cache.remove_unused_base_images:
            return
        now = time.monotonic()
        used = {instance.image_ref for instance in instances}
        with translated():
            self._unused_since = {
                image_id: self._unused_since.get(image_id, now)
                for image_id in store.names(self._client)
                if image_id not in used
            }
            oldest = CONF.image_cache.remove_unused_original_minimum_age_seconds
            for image_id, since in list(self._unused_since.items()):
                if now - since >= oldest:
                    self._remove(image_id)

    def touch(self, image_id: str) -> None:
        """Count the time of an image anew: somebody wants it here."""
        self._unused_since.pop(image_id, None)

    def _remove(self, image_id: str) -> None:
        LOG.info("Removing image %s: no server uses it", image_id)
        try:
            with lockutils.lock(store.lock_of(image_id)):
                self._client.remove_image(store.name_of(image_id))
        except (errors.Conflict, errors.ImageNotFound) as error:
            # A rescued server, or an operator's container, is made of it; or
            # the operator was faster.
            LOG.info("Image %s is not removed: %s", image_id, error)
