# SPDX-License-Identifier: Apache-2.0
"""What a server's user may know of its container: pure functions.

Everything comes from the public APIs of Nova and Glance, and nothing from the host.
Properties of an image describe it in the words of its owner: they are shown as text,
and may be anything.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_lazy as _

# Where nova_docker.config_drive mounts it.
CONFIG_DRIVE = "/var/lib/cloud/seed/config_drive"


@dataclass(frozen=True)
class Section:
    """A heading with facts below it, each a name and a text."""

    title: str
    facts: tuple[tuple[str, str], ...]


def is_container(image: Mapping[str, Any]) -> bool:
    """Return whether the servers of an image, as Glance shows it, are containers."""
    return image.get("container_format") == "docker"


def sections(
    server: Mapping[str, Any], image: Mapping[str, Any], volumes: Iterable[Any] = ()
) -> list[Section]:
    """Return the facts of a server.

    :param server: openstacksdk's server, as a dictionary
    :param image: as Glance shows it
    :param volumes: Nova's volume attachments, with ``device`` and ``name``
    """
    flavor = server["flavor"]
    at_boot = (server.get("image") or {}).get("properties") or {}
    return [
        Section(_("Image"), tuple(_image(image))),
        Section(_("First process"), tuple(_process({**image, **at_boot}))),
        Section(_("Mounts"), tuple(_mounts(server, image, volumes))),
        Section(_("Limits"), tuple(_limits(flavor))),
    ]


def _image(image: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    names = {
        "docker_tag": _("Name on the engine"),
        "docker_digest": _("Digest in a registry"),
        "docker_image_id": _("Image ID of Docker"),
        "docker_created": _("Built"),
        "architecture": _("Architecture"),
    }
    for key, name in names.items():
        if value := image.get(key):
            yield name, str(value)
    if digest := image.get("os_hash_value"):
        yield _("Digest of the archive"), f"{image.get('os_hash_algo')}:{digest}"


def _process(properties: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the first process is.

    :param properties: of the image; those that Nova knows, as they were when the
        server was booted
    """
    init = properties.get("os_init")
    if init and init != "none":
        yield _("Init"), str(init)
    if entrypoint := properties.get("docker_entrypoint"):
        yield _("Entry point"), _words(entrypoint)
    if line := properties.get("os_command_line"):
        yield _("Command"), str(line)
    elif command := properties.get("docker_cmd"):
        yield _("Command"), _words(command)


def _mounts(
    server: Mapping[str, Any], image: Mapping[str, Any], volumes: Iterable[Any]
) -> Iterator[tuple[str, str]]:
    yield "/", str(_("root disk"))
    for path in _strings(image.get("docker_volumes")) or ():
        yield path, str(_("volume of the image, on the root disk"))
    if server.get("has_config_drive"):
        yield CONFIG_DRIVE, str(_("config drive, read-only"))
    for volume in volumes:
        yield volume.device, str(volume.name or volume.volumeId)


def _limits(flavor: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the limits, and what else the flavor determines."""
    yield _("CPUs"), str(flavor["vcpus"])
    yield _("Memory"), _mebibytes(flavor["ram"])
    yield _("Swap"), _mebibytes(flavor.get("swap") or 0)
    disk = flavor["disk"]
    yield _("Root disk"), f"{disk} GiB" if disk else str(_("no limit"))
    specs = flavor.get("extra_specs") or {}
    if isolation := specs.get("docker:isolation"):
        yield _("Isolation"), str(isolation)
    if specs.get("docker:net_admin") == "false":
        yield _("Network administration"), str(_("not allowed"))


def _mebibytes(number: int) -> str:
    return f"{number} MiB" if number else str(_("none"))


def _words(text: Any) -> str:
    """Return a JSON array of words as a command line, and any other text unchanged."""
    words = _strings(text)
    return str(text) if words is None else shlex.join(words)


def _strings(text: Any) -> list[str] | None:
    """Return the strings of a JSON array, or None if it is not one."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return found
    return None
