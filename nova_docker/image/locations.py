# SPDX-License-Identifier: Apache-2.0
"""Where Glance says that an image is, asked as the service that Nova is.

Glance tells no tenant, and takes no ``docker://`` location from one: it asks for
the role ``service`` for both. So what it answers here, an operator's service has
said. Nothing that is written on an image is looked at: its owner wrote that.
"""

from __future__ import annotations

import threading
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
    """Glance's locations of images, those that are ``docker://``.

    Credentials are those that nova.conf has in ``[service_user]``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._glance: Any = None

    def of(self, image_id: str) -> list[location.Location]:
        """Return where an image is; nothing when Glance does not say.

        Glance call: "GET /v2/images/{image_id}/locations"
        """
        try:
            answer = self._adapter().get(f"/images/{image_id}/locations")
        except exceptions.ClientException as error:
            LOG.warning("Glance does not say where image %s is: %s", image_id, error)
            return []
        if answer.status_code != 200:
            LOG.info(
                "Glance does not say where image %s is: %s", image_id, answer.reason
            )
            return []
        try:
            urls = [place["url"] for place in answer.json()]
        except (KeyError, TypeError, ValueError) as error:
            LOG.warning("That is not what Glance answers: %r", error)
            return []
        found = []
        for url in urls:
            if not url.startswith(f"{location.SCHEME}://"):
                continue
            try:
                found.append(location.parse(url))
            except ValueError as error:
                LOG.warning("Image %s: %s", image_id, error)
        return found

    def _adapter(self) -> Any:
        """
        :raises ClientException: when there are no credentials
        """
        with self._lock:
            if self._glance is None:
                auth = loading.load_auth_from_conf_options(
                    CONF, service_token.SERVICE_USER_GROUP
                )
                if auth is None:
                    raise exceptions.AuthPluginException(
                        "[service_user] of nova.conf has no credentials"
                    )
                self._glance = utils.get_ksa_adapter(
                    "image", ksa_auth=auth, min_version="2", max_version="2.latest"
                )
            return self._glance
