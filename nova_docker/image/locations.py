# SPDX-License-Identifier: Apache-2.0
"""Look-up of images' ``docker://`` locations in Glance, as a service user.

Glance requires the role ``service`` both to read locations and to set ``docker://``
ones, so only the operator's services determine them. Image properties, which the
image's owner can set, are ignored.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

from keystoneauth1 import exceptions
from keystoneauth1 import loading
from nova import conf as nova_conf
from nova import utils
from nova.conf import service_token
from oslo_log import log as logging

from docker_engine import location

CONF = nova_conf.CONF
LOG = logging.getLogger(__name__)


class ImageLocations:
    """Glance's ``docker://`` locations of images.

    The credentials are those in ``[service_user]`` of nova.conf.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._glance: Any = None

    def of(self, image_id: str) -> list[location.Location]:
        """Return the locations of an image; none if Glance does not report any.

        Glance call: GET /v2/images/{image_id}/locations
        """
        try:
            response = self._adapter().get(f"/images/{image_id}/locations")
        except exceptions.ClientException as error:
            LOG.warning(
                "Cannot get the locations of image %s from Glance: %s", image_id, error
            )
            return []
        if response.status_code != 200:
            LOG.info(
                "Cannot get the locations of image %s from Glance: %s %s",
                image_id,
                response.status_code,
                response.reason,
            )
            return []
        try:
            urls = [found["url"] for found in response.json()]
            ours = [url for url in urls if url.startswith(f"{location.SCHEME}://")]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            LOG.warning(
                "Unexpected response from Glance for the locations of image %s: %r",
                image_id,
                error,
            )
            return []
        return list(_parsed(image_id, ours))

    def _adapter(self) -> Any:
        """Return the client of Glance's API, created at the first call.

        :raises ClientException: if there are no credentials
        """
        with self._lock:
            if self._glance is None:
                auth = loading.load_auth_from_conf_options(
                    CONF, service_token.SERVICE_USER_GROUP
                )
                if auth is None:
                    raise exceptions.AuthPluginException(
                        "there are no credentials in [service_user] of nova.conf"
                    )
                self._glance = utils.get_ksa_adapter(
                    "image", ksa_auth=auth, min_version="2", max_version="2.latest"
                )
            return self._glance


def _parsed(image_id: str, urls: Iterable[str]) -> Iterator[location.Location]:
    for url in urls:
        try:
            yield location.parse(url)
        except ValueError as error:
            LOG.warning("Ignoring a location of image %s: %s", image_id, error)
