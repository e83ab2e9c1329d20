# SPDX-License-Identifier: Apache-2.0
"""Remembers which images have been refused for their content.

A user may boot a refused image again and again, and each time it would be downloaded
and parsed to the same point. The data of an active image never changes in Glance, so
the answer does not change either.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time

from nova import exception
from nova import objects
from oslo_log import log as logging

LOG = logging.getLogger(__name__)

# Images that are remembered. After an hour another attempt is made: the engine, which
# refuses some images itself, may have been replaced.
MAX_IMAGES = 1000
LIFETIME = 3600.0  # seconds

_Key = tuple[str, str | None]


@dataclasses.dataclass(frozen=True)
class _Refusal:
    """Why an image was refused: its fault, or how much disk it takes at least."""

    reason: str | None
    at_least: int
    until: float


class Refusals:
    """Refused images. Several threads may use it at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refusals: collections.OrderedDict[_Key, _Refusal]
        self._refusals = collections.OrderedDict()

    def check(self, image_meta: objects.ImageMeta, root: int) -> None:
        """Refuse an image that has been refused before.

        :param root: bytes of the flavor's root disk; 0 for no limit
        :raises ImageUnacceptable: as before
        :raises FlavorDiskSmallerThanImage: if it is known not to fit the root disk
        """
        with self._lock:
            found = self._refusals.get(_key(image_meta))
        if not found or found.until < time.monotonic():
            return
        if found.reason:
            LOG.info("Image %s has been refused before", image_meta.id)
            raise exception.ImageUnacceptable(
                image_id=image_meta.id, reason=found.reason
            )
        if root and found.at_least > root:
            raise exception.FlavorDiskSmallerThanImage(
                flavor_size=root, image_size=found.at_least
            )

    def remember(
        self,
        image_meta: objects.ImageMeta,
        *,
        reason: str | None = None,
        at_least: int = 0,
    ) -> None:
        """Remember that an image was refused.

        :param reason: its fault, for which every flavor is refused
        :param at_least: or the bytes of disk that it takes at least
        """
        until = time.monotonic() + LIFETIME
        with self._lock:
            self._refusals[_key(image_meta)] = _Refusal(reason, at_least, until)
            self._refusals.move_to_end(_key(image_meta))
            while len(self._refusals) > MAX_IMAGES:
                self._refusals.popitem(last=False)


def _key(image_meta: objects.ImageMeta) -> _Key:
    known = image_meta.obj_attr_is_set("checksum")
    return image_meta.id, image_meta.checksum if known else None
