# SPDX-License-Identifier: Apache-2.0
"""The tab "Container" of a server's page."""

from __future__ import annotations

from typing import Any

from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _
from glanceclient import exc as glance_exceptions
from horizon import exceptions
from horizon import tabs
from openstack_dashboard.api import _nova as nova
from openstack_dashboard.api import glance

from nova_docker_dashboard import facts


class ContainerTab(tabs.Tab):
    """Shows what the public APIs tell a server's user about its container."""

    name = _("Container")
    slug = "container"
    template_name = "nova_docker_dashboard/container.html"
    preload = False

    def allowed(self, request: Any) -> bool:
        """Return whether the server is a container.

        Only its image tells. If that has been deleted, nothing does.
        """
        return facts.is_container(self._image)

    def get_context_data(self, request: Any) -> dict[str, Any]:
        instance = self.tab_group.kwargs["instance"]
        try:
            server = nova.computeclient(request).get_server(instance.id).to_dict()
        except Exception:
            exceptions.handle(request, _("Unable to retrieve the server."))
            return {"sections": ()}
        volumes = getattr(instance, "volumes", ())
        return {"sections": facts.sections(server, self._image, volumes)}

    @cached_property
    def _image(self) -> dict[str, Any]:
        """The server's image in Glance; empty if its user may not see it."""
        image = self.tab_group.kwargs["instance"].image
        if not image:
            return {}
        try:
            return glance.glanceclient(self.request).images.get(image["id"])
        except (
            glance_exceptions.BaseException,  # of connections
            glance_exceptions.ClientException,
            exceptions.ServiceCatalogException,
        ):
            return {}
