# SPDX-License-Identifier: Apache-2.0
"""How large an image of a registry is, before the engine pulls it."""

from __future__ import annotations

import pathlib

from oslo_log import log as logging

from docker_engine import location
from docker_engine.registry import Registry
from docker_engine.registry import RegistryError

LOG = logging.getLogger(__name__)

# Where an engine finds the authority of a registry's certificate.
_AUTHORITIES = pathlib.Path("/etc/docker/certs.d")

# The registry that image names leave out, and its real address.
_HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"

# An engine that pulls has the compressed layers on its disk, and unpacks them. They
# expand by a factor of 2 to 5.
ON_DISK = 5


def compressed_size(
    reference: str, auth: tuple[str, str] | None, architecture: str | None
) -> int | None:
    """Return the size of an image's layers in its registry, in bytes.

    :param reference: ``registry/repository@sha256:…``
    :param auth: user name and password for the registry
    :param architecture: GOARCH name; None if the engine does not say
    :returns: None if nova-compute cannot read the manifest, which does not mean that
        the engine cannot: it may use a proxy or a mirror
    """
    name, _, digest = reference.partition("@")
    host = location.registry_of(name)
    repository = name.removeprefix(f"{host}/")
    if host == _HUB:
        host = _HUB_HOST
        repository = repository if "/" in repository else f"library/{repository}"
    authority = _AUTHORITIES / host / "ca.crt"
    registry = Registry(
        host, auth=auth, ca_file=str(authority) if authority.exists() else None
    )
    try:
        image = registry.resolve(repository, digest, architecture or "amd64")
    except RegistryError as error:
        LOG.info("Cannot tell the size of %s before it is pulled: %s", reference, error)
        return None
    return sum(layer.size for layer in set(image.layers))
