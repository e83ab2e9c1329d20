# SPDX-License-Identifier: Apache-2.0
"""nova-docker-image: Docker's images into Glance, one at a time.

``push`` uploads an image of an engine. ``register`` has Glance know one that a
registry has, without a byte of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import openstack.config
import openstack.connection
from glanceclient.common import progressbar
from keystoneauth1.exceptions import ClientException
from openstack import exceptions
from requests import exceptions as http

from docker_engine import errors
from docker_engine import location
from docker_engine.archive import ArchiveError
from docker_engine.client import DockerClient
from docker_engine.credentials import credentials
from docker_engine.registry import Registry
from docker_engine.registry import RegistryError
from glance_docker import listing
from glance_docker.export import export

_VISIBILITIES = ("public", "community", "shared", "private")

# Seconds that Glance has for making a registered image active.
_TIMEOUT = 60


class CommandError(Exception):
    """What the user is told; nothing is left in Glance."""


def push(
    cloud: Any, client: DockerClient, image: str, values: Mapping[str, Any]
) -> str:
    """Upload an image of an engine; return Glance's id.

    :param image: its name or id
    :param values: of Glance's image, in place of what the image says
    :raises CommandError: when the engine has it not, or Glance takes it not
    """
    try:
        found = client.inspect_image(image)
    except errors.NotFound as error:
        raise CommandError(f"The engine has no image {image}") from error
    except (errors.DockerError, ValueError) as error:
        raise CommandError(str(error)) from error
    tags = found.get("RepoTags") or []
    name = image if image in tags or not tags else tags[0]
    body = {"name": listing.shown_name(name), **listing.described(found), **values}
    with _created(cloud, body) as image_id:
        # Loaded by hand it is called as here, unless it has no name here.
        chunks = export(client, found["Id"], name if name in tags else "")
        cloud.image.put(
            f"/images/{image_id}/file",
            data=_Progress(chunks, found["Size"]),
            headers={"Content-Type": "application/octet-stream"},
        ).raise_for_status()
    return image_id


def register(
    cloud: Any,
    registry: Registry,
    place: str,
    values: Mapping[str, Any],
    architecture: str = "amd64",
) -> str:
    """Have Glance know an image of a registry; return Glance's id.

    :param place: ``repository:tag`` or ``repository@sha256:…``; Glance gets the
        digest
    :param values: of Glance's image, in place of what the image says
    :param architecture: as Go names it; which of an image for several
    :raises CommandError: when the registry has it not, or Glance takes it not
    """
    repository, _, reference = place.partition("@" if "@" in place else ":")
    try:
        found = registry.resolve(repository, reference or "latest", architecture)
        described = _described(b"".join(registry.blob(repository, found.config)))
    except RegistryError as error:
        raise CommandError(str(error)) from error
    image = location.RegistryImage(registry.host, repository, found.digest)
    body = {
        "name": listing.shown_name(f"{registry.host}/{place}"),
        "docker_digest": image.reference,
        **described,
        **values,
    }
    with _created(cloud, body) as image_id:
        answer = cloud.image.post(
            f"/images/{image_id}/locations", json={"url": image.url}
        )
        if answer.status_code == 403:
            raise CommandError(
                "Glance takes a location from users with the role service alone"
            )
        answer.raise_for_status()
        _await_active(cloud, image_id)
    return image_id


def _described(config: bytes) -> dict[str, str]:
    """Return what an image says of itself in its configuration, which anybody wrote.

    :raises CommandError: when it is none
    """
    try:
        found = json.loads(config)
        return listing.described(
            {
                "Architecture": found.get("architecture"),
                "Created": found.get("created"),
                "Config": found.get("config"),
            }
        )
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise CommandError("The image's configuration is malformed") from error


@contextlib.contextmanager
def _created(cloud: Any, values: Mapping[str, Any]) -> Iterator[str]:
    """Have an image in Glance, which goes when the block fails."""
    body = {"container_format": "docker", "disk_format": "raw", **values}
    try:
        answer = cloud.image.post("/images", json=body)
        answer.raise_for_status()
        image_id = answer.json()["id"]
        try:
            yield image_id
        except BaseException:
            cloud.image.delete(f"/images/{image_id}")
            raise
    except (http.HTTPError, ClientException, exceptions.SDKException) as error:
        raise CommandError(f"Glance: {error}") from error
    except (errors.DockerError, ArchiveError) as error:
        raise CommandError(f"The image cannot be read: {error}") from error


def _await_active(cloud: Any, image_id: str) -> None:
    """Wait for the task in which Glance looks at a location."""
    deadline = time.monotonic() + _TIMEOUT
    while time.monotonic() < deadline:
        if cloud.image.get(f"/images/{image_id}").json()["status"] == "active":
            return
        for task in cloud.image.get(f"/images/{image_id}/tasks").json()["tasks"]:
            if task["status"] == "failure":
                raise CommandError(f"Glance cannot use it: {task['message']}")
        time.sleep(0.2)
    raise CommandError(f"Glance has not made it active in {_TIMEOUT} s")


class _Progress(progressbar.VerboseIteratorWrapper):
    """A bar, on a terminal, of the part of an image that has been read.

    The engine says how large its files are; the archive is a bit larger.
    """

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        super().__init__(iter(chunks), size)

    def _display_progress_bar(self, size_read: int) -> None:
        left = (1 - self._percent) * self._totalsize
        super()._display_progress_bar(min(size_read, left))


def main(arguments: list[str] | None = None) -> None:
    """``nova-docker-image push IMAGE`` or ``register REGISTRY/REPOSITORY:TAG``"""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        clouds = openstack.config.OpenStackConfig()
        options = _parser(clouds, arguments).parse_args(arguments)
        values = {"visibility": options.visibility} if options.visibility else {}
        if options.name:
            values["name"] = options.name
        values |= dict(options.property)
        cloud = openstack.connection.Connection(config=clouds.get_one(argparse=options))
        if options.action == "push":
            image_id = push(cloud, _engine(options), options.image, values)
        else:
            registry, place = _registry(options)
            image_id = register(cloud, registry, place, values, options.architecture)
    except (
        CommandError,
        ClientException,
        exceptions.SDKException,
        ValueError,
    ) as error:
        sys.exit(f"nova-docker-image: {error}")
    print(image_id)  # noqa: T201


def _parser(clouds: Any, arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nova-docker-image", description="Docker's images into Glance, one at a time."
    )
    clouds.register_argparse_arguments(parser, arguments)
    actions = parser.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", help="in Glance")
    common.add_argument(
        "--property",
        action="append",
        default=[],
        type=_property,
        metavar="KEY=VALUE",
        help="of the image in Glance; may be given several times",
    )
    for visibility in _VISIBILITIES:
        common.add_argument(
            f"--{visibility}",
            action="store_const",
            dest="visibility",
            const=visibility,
        )
    action = actions.add_parser("push", parents=[common], help="upload an image")
    action.add_argument(
        "--docker-host",
        default=os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
        help="the engine; DOCKER_HOST or its usual socket",
    )
    action.add_argument("image", help="name or id of an image of the engine")
    action = actions.add_parser(
        "register", parents=[common], help="have Glance know an image of a registry"
    )
    action.add_argument("--ca-file", help="who signed the registry's certificate")
    action.add_argument(
        "--auth-file",
        default=os.path.expanduser("~/.docker/config.json"),
        help="credentials for the registry; Docker's config.json",
    )
    action.add_argument("--architecture", default="amd64", help="as Go names it")
    action.add_argument("image", help="HOST[:PORT]/REPOSITORY[:TAG | @sha256:…]")
    return parser


def _property(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"not KEY=VALUE: {text!r}")
    return key, value


def _engine(options: argparse.Namespace) -> DockerClient:
    return DockerClient(options.docker_host)


def _registry(options: argparse.Namespace) -> tuple[Registry, str]:
    host, slash, place = options.image.removeprefix(f"{location.SCHEME}://").partition(
        "/"
    )
    if not slash:
        raise CommandError(f"{options.image} names no registry: HOST[:PORT]/…")
    path = options.auth_file if os.path.exists(options.auth_file) else None
    return Registry(host, auth=credentials(path, host), ca_file=options.ca_file), place
