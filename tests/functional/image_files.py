# SPDX-License-Identifier: Apache-2.0
"""What an engine keeps of images, to compare before and after."""

from __future__ import annotations

import pathlib
import time
from typing import Any

from docker_engine.client import DockerClient
from nova_docker.image.store import ImageStore
from nova_docker.storage.space import DiskSpace
from tests.engine import Engine

TIMEOUT = 10  # seconds


def space_of(client: DockerClient) -> DiskSpace:
    """Return the space of an engine's disk, as the driver makes it."""
    return DiskSpace(lambda: str(client.info()["DockerRootDir"]))


def store_of(engine: Engine, glance: Any, locations: Any = None) -> ImageStore:
    """Return the image store of an engine, as the driver makes it."""
    client = engine.client
    return ImageStore(client, glance, space_of(client), locations)


def tags(engine: Engine) -> dict[str, str]:
    """Return the names of images, each with the image's ID."""
    found = engine.client.list_images()
    return {tag: image["Id"] for image in found for tag in image["RepoTags"]}


def everything(engine: Engine) -> tuple[Any, ...]:
    """Return the images of an engine and the files on its disk."""
    info = engine.client.info()
    root = pathlib.Path(info["DockerRootDir"])
    store = root / "image" / info["Driver"]
    return (
        tags(engine),
        len(engine.client.list_images({"dangling": ["true"]})),
        {path.name for path in (store / "imagedb" / "content" / "sha256").glob("*")},
        {path.name for path in (store / "layerdb" / "sha256").glob("*")},
        {path.name for path in (root / info["Driver"]).glob("*")},
        {path.name for path in (root / "tmp").glob("*")},
    )


def at_rest(engine: Engine) -> tuple[Any, ...]:
    """Return everything, after the engine has dropped what earlier tests aborted."""
    deadline = time.monotonic() + TIMEOUT
    while (found := everything(engine))[-1] and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def assert_back_to(engine: Engine, before: tuple[Any, ...]) -> None:
    """Check that an engine has what it had, and nothing else."""
    # The engine drops an aborted upload only when it notices, soon afterwards.
    deadline = time.monotonic() + TIMEOUT
    while everything(engine) != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert everything(engine) == before
