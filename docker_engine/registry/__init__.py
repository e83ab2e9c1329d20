# SPDX-License-Identifier: Apache-2.0
"""A read-only client for image registries (OCI distribution specification)."""

from docker_engine.registry.archive import RegistryArchive
from docker_engine.registry.client import Registry
from docker_engine.registry.errors import BadImage
from docker_engine.registry.errors import NotFound
from docker_engine.registry.errors import Refused
from docker_engine.registry.errors import RegistryError
from docker_engine.registry.errors import Unreachable
from docker_engine.registry.manifest import Descriptor
from docker_engine.registry.manifest import Image

__all__ = [
    "BadImage",
    "Descriptor",
    "Image",
    "NotFound",
    "Refused",
    "Registry",
    "RegistryArchive",
    "RegistryError",
    "Unreachable",
]
