# SPDX-License-Identifier: Apache-2.0
"""Removes images from the engine that no server has used for some time.

Nova's ``[image_cache]`` options apply. Only the tags of :mod:`nova_docker.image.store`
are removed: an image that someone else has loaded or tagged stays.
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
    """Tracks since when images have been unused.

    The times start over when nova-compute restarts: the engine does not record them,
    and keeping an image for too long is better than removing it too early.
    """

    def __init__(self, client: DockerClient) -> None:
        self._client = client
        self._unused_since: dict[str, float] = {}  # by Glance image ID

    def prune(self, instances: Iterable[objects.Instance]) -> None:
        """Remove images that have been unused for as long as Nova's options say.

        Engine calls: GET /images/json, and DELETE /images/{name} for each image to
        remove.

        :param instances: all servers of the host
        :raises NovaException: if the engine fails
        """
        if not CONF.image_cache.remove_unused_base_images:
            return
        now = time.monotonic()
        used = {instance.image_ref for instance in instances}
        with translated():
            self._unused_since = {
                image_id: self._unused_since.get(image_id, now)
                for image_id in store.image_ids(self._client)
                if image_id not in used
            }
            max_age = CONF.image_cache.remove_unused_original_minimum_age_seconds
            for image_id, since in list(self._unused_since.items()):
                if now - since >= max_age:
                    self._remove(image_id)

    def touch(self, image_id: str) -> None:
        """Restart the time of an image that has been requested."""
        self._unused_since.pop(image_id, None)

    def _remove(self, image_id: str) -> None:
        LOG.info("Removing unused image %s from the Docker engine", image_id)
        try:
            with lockutils.lock(store.lock_name(image_id)):
                self._client.remove_image(store.tag_of(image_id))
        except (errors.Conflict, errors.ImageNotFound) as error:
            # A server in rescue or an operator's container uses it, or someone else has
            # removed it.
            LOG.info("Did not remove image %s: %s", image_id, error)
