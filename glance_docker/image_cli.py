# SPDX-License-Identifier: Apache-2.0
"""The command nova-docker-image adds Docker images to Glance one at a time.

``push`` uploads an image of an engine. ``register`` adds an image of a registry
without copying its data.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import openstack.config
from glanceclient.common import progressbar
from keystoneauth1.adapter import Adapter
from keystoneauth1.exceptions import ClientException
from openstack.exceptions import SDKException

from docker_engine import errors
from docker_engine import location
from docker_engine.archive import ArchiveError
from docker_engine.client import DockerClient
from docker_engine.credentials import credentials
from docker_engine.reference import is_reserved
from docker_engine.registry import Registry
from docker_engine.registry import RegistryError
from glance_docker import image_metadata
from glance_docker.export import export
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.gateway import checked_response

_VISIBILITIES = ("public", "community", "shared", "private")


class CommandError(Exception):
    """A failure to report to the user; the command leaves no image in Glance."""


def push(
    gateway: ImageGateway, client: DockerClient, image: str, values: Mapping[str, Any]
) -> str:
    """Upload an image of an engine, and return its ID in Glance.

    :param image: its name or ID on the engine
    :param values: attributes of Glance's image, which take precedence over those
        derived from the image
    :raises CommandError: when the engine has no such image, or Glance rejects it
    """
    try:
        found = client.inspect_image(image)
    except errors.NotFound as error:
        raise CommandError(f"the engine has no image {image}") from error
    except (errors.DockerError, ValueError) as error:
        raise CommandError(str(error)) from error
    tags = found.get("RepoTags") or []
    name = _name(image, tags)
    attributes = {
        "name": image_metadata.shown_name(name),
        **image_metadata.described(found),
        **values,
    }
    with _created(gateway, attributes) as image_id:
        # `docker load` gives the image the name that it has here, if it has one.
        chunks = export(client, found["Id"], name if name in tags else "")
        gateway.upload(image_id, _Progress(chunks, found["Size"]))
    return image_id


def _name(image: str, tags: Sequence[str]) -> str:
    """Return the name that an image gets in Glance.

    :param image: what the user calls it: a name, with or without a tag, or an ID
    :param tags: all of its names on the engine
    """
    for name in (image, f"{image}:latest"):
        if name in tags:
            return name
    # A host's own names of an image say nothing elsewhere.
    return next((tag for tag in tags if not is_reserved(tag)), image)


def register(
    gateway: ImageGateway,
    registry: Registry,
    reference: str,
    values: Mapping[str, Any],
    architecture: str = "amd64",
) -> str:
    """Add an image of a registry to Glance by its digest, and return Glance's ID.

    :param reference: ``repository:tag`` or ``repository@sha256:…``
    :param values: attributes of Glance's image, which take precedence over those
        derived from the image
    :param architecture: GOARCH name of the architecture to use from a
        multi-platform image
    :raises CommandError: when the registry has no such image, or Glance rejects it
    """
    repository, _, version = reference.partition("@" if "@" in reference else ":")
    try:
        found = registry.resolve(repository, version or "latest", architecture)
        described = _described(b"".join(registry.blob(repository, found.config)))
    except RegistryError as error:
        raise CommandError(str(error)) from error
    image = location.RegistryImage(registry.host, repository, found.digest)
    attributes = {
        "name": image_metadata.shown_name(f"{registry.host}/{reference}"),
        "docker_digest": image.reference,
        **described,
        **values,
    }
    with _created(gateway, attributes) as image_id:
        gateway.add_location(image_id, image.url)
        gateway.wait_until_active(image_id)
    return image_id


def _described(config: bytes) -> dict[str, str]:
    """Return the properties that follow from an image's untrusted configuration.

    :raises CommandError: when it is malformed
    """
    try:
        found = json.loads(config)
        return image_metadata.described(
            {
                "Architecture": found.get("architecture"),
                "Created": found.get("created"),
                "Config": found.get("config"),
            }
        )
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise CommandError("The image's configuration is malformed") from error


@contextlib.contextmanager
def _created(gateway: ImageGateway, values: Mapping[str, Any]) -> Iterator[str]:
    """Create an image for the block, and delete it again if the block fails."""
    try:
        with checked_response():
            image_id = gateway.create(values)["id"]
        try:
            yield image_id
        except BaseException:  # KeyboardInterrupt, too
            _delete(gateway, image_id)
            raise
    except GatewayError as error:
        raise CommandError(str(error)) from error
    except (errors.DockerError, ArchiveError) as error:
        raise CommandError(f"Cannot read the image: {error}") from error


def _delete(gateway: ImageGateway, image_id: str) -> None:
    try:
        gateway.delete(image_id)
    except GatewayError as error:
        # The error that led here is the one to report.
        sys.stderr.write(
            f"nova-docker-image: Cannot delete the incomplete image {image_id}, "
            f"delete it yourself: {error}\n"
        )


class _Progress(progressbar.VerboseIteratorWrapper):
    """A progress bar on a terminal, for the part of an image that has been read.

    :param size: bytes of the image's files. The archive is a little larger, so the
        bar is capped at 100 %.
    """

    def __init__(self, chunks: Iterable[bytes], size: int) -> None:
        super().__init__(iter(chunks), size)

    def _display_progress_bar(self, size_read: int) -> None:
        left = (1 - self._percent) * self._totalsize
        super()._display_progress_bar(min(size_read, left))


def main(arguments: list[str] | None = None) -> None:
    """Run ``nova-docker-image push IMAGE`` or ``nova-docker-image register IMAGE``.

    :param arguments: default to those of the process
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        clouds = openstack.config.OpenStackConfig()
        options = _parser(clouds, arguments).parse_args(arguments)
        values = {"visibility": options.visibility} if options.visibility else {}
        if options.name:
            values["name"] = options.name
        values |= dict(options.property)
        gateway = ImageGateway(_glance(clouds.get_one(argparse=options)))
        if options.action == "push":
            client = DockerClient(options.docker_host)
            image_id = push(gateway, client, options.image, values)
        else:
            registry, reference = _registry(options)
            image_id = register(
                gateway, registry, reference, values, options.architecture
            )
    except (CommandError, ClientException, SDKException, ValueError) as error:
        sys.exit(f"nova-docker-image: {error}")
    print(image_id)  # noqa: T201


def _glance(cloud: Any) -> Adapter:
    """Return the Glance of a cloud, at the endpoint of version 2 of its API.

    :param cloud: openstacksdk's configuration of it, a ``CloudRegion``
    :raises CommandError: or ClientException, when there is none
    """
    session = cloud.get_session()
    endpoint = session.get_endpoint_data(
        service_type=cloud.get_service_type("image"),
        service_name=cloud.get_service_name("image"),
        interface=cloud.get_interface("image"),
        region_name=cloud.get_region_name("image"),
        endpoint_override=cloud.get_endpoint("image"),
        skip_discovery=True,
        discover_versions=False,
    )
    if endpoint is None:
        raise CommandError("The cloud's configuration has no image endpoint")
    # An endpoint may be Glance's root, or that of version 2, which Glance does not
    # describe: it needs no discovery.
    endpoint = endpoint.get_versioned_data(
        session, min_version="2", max_version="2.latest", discover_versions=False
    )
    return Adapter(
        session,
        endpoint_override=endpoint.url,
        connect_retries=cloud.get_connect_retries("image"),
        status_code_retries=cloud.get_status_code_retries("image"),
    )


def _parser(clouds: Any, arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "nova-docker-image", description="Add Docker images to Glance one at a time."
    )
    clouds.register_argparse_arguments(parser, arguments)
    actions = parser.add_subparsers(dest="action", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--name", help="name of the image in Glance")
    common.add_argument(
        "--property",
        action="append",
        default=[],
        type=_property,
        metavar="KEY=VALUE",
        help="set a property of the image in Glance; may be repeated",
    )
    for visibility in _VISIBILITIES:
        common.add_argument(
            f"--{visibility}",
            action="store_const",
            dest="visibility",
            const=visibility,
            help=f"set the visibility of the image to {visibility}",
        )
    action = actions.add_parser(
        "push",
        parents=[common],
        help="upload an image of a Docker engine",
        description="Upload an image of a Docker engine to Glance, and print its ID "
        "in Glance.",
    )
    action.add_argument(
        "--docker-host",
        default=os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"),
        help="address of the engine (default: env[DOCKER_HOST], or else "
        "unix:///var/run/docker.sock)",
    )
    action.add_argument("image", help="name or ID of the image on the engine")
    action = actions.add_parser(
        "register",
        parents=[common],
        help="add an image of a registry without copying its data",
        description="Create an image in Glance that refers to an image in a registry "
        "by its digest, and print its ID. No data is copied.",
    )
    action.add_argument(
        "--ca-file", help="CA bundle (PEM) to verify the registry's certificate with"
    )
    action.add_argument(
        "--auth-file",
        default=os.path.expanduser("~/.docker/config.json"),
        help="Docker config.json with credentials for the registry "
        "(default: ~/.docker/config.json)",
    )
    action.add_argument(
        "--architecture",
        default="amd64",
        help="architecture (GOARCH name) to select from a multi-platform image "
        "(default: amd64)",
    )
    action.add_argument(
        "image", help="the image: HOST[:PORT]/REPOSITORY[:TAG | @sha256:…]"
    )
    return parser


def _property(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"not KEY=VALUE: {text!r}")
    return key, value


def _registry(options: argparse.Namespace) -> tuple[Registry, str]:
    image = options.image.removeprefix(f"{location.SCHEME}://")
    host, slash, reference = image.partition("/")
    if not slash:
        raise CommandError(
            f"{options.image} names no registry; use HOST[:PORT]/REPOSITORY"
        )
    path = options.auth_file if os.path.exists(options.auth_file) else None
    auth = credentials(path, host)
    return Registry(host, auth=auth, ca_file=options.ca_file), reference
