# SPDX-License-Identifier: Apache-2.0
"""How long it takes to list an engine's images in a Glance that has none of them."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Iterator

from oslo_config import cfg

from cloud import probes
from cloud import settings
from cloud import supervisor
from docker_engine import location
from glance_docker import conf as options
from glance_docker.gateway import ImageGateway
from glance_docker.image_metadata import Key
from glance_docker.sync import access_rules
from glance_docker.sync.access_rules import Access
from glance_docker.sync.images import EngineImages
from glance_docker.sync.images import ListedImage
from glance_docker.sync.reconcile import Reconciler
from tests import archives
from tests.cloud import cloud
from tests.cloud import services

CONF = settings.ETC / "glance/glance-docker-sync.conf"
SERVICE = "glance-docker-sync"
INTERVAL = 0.5  # seconds between checks


class Listing:
    """New images of the cloud's engine, listed in its Glance.

    The code of glance-docker-sync runs here, not in the service, so that the
    service's start and its other work do not count.
    """

    def __init__(self, images: int) -> None:
        self.names = [f"bench-listing:{number}" for number in range(images)]
        conf = cfg.ConfigOpts()
        options.register_sync_opts(conf)
        conf([f"--config-file={CONF}"])
        self.engine = conf.engine.docker_engine
        self.client = options.engine(conf.engine)
        self.glance = options.glance(conf)
        self.gateway = ImageGateway(self.glance)
        self.images = EngineImages(self.gateway, self.engine)
        self.workers = conf.sync.workers

    def by_calls(self) -> float:
        """Return the seconds for bare calls to Glance, with one image for all tags."""
        with (
            # Glance checks that the image exists on the engine.
            self._on_engine(self.names[:1]),
            concurrent.futures.ThreadPoolExecutor(self.workers) as callers,
        ):
            image = self.client.inspect_image(self.names[0])

            def make(name: str) -> ListedImage:
                key = Key(name, image["Id"])
                listed = self.images.create(key, Access("public"), image)
                place = location.EngineImage(self.engine, name, image["Id"], size=1)
                self.images.locate(listed, place.url)
                return listed

            begun = time.monotonic()
            made = list(callers.map(make, self.names))
            self._wait()
            took = time.monotonic() - begun
            list(callers.map(self.images.remove, made))
        return took

    def by_sync(self) -> float:
        """Return the seconds for the sync, which also inspects and reads each image."""
        rules = access_rules.Rules((), "public")
        reconciler = Reconciler(
            self.client, self.gateway, self.engine, rules, self.workers
        )
        with contextlib.closing(reconciler):
            with self._on_engine(self.names):
                begun = time.monotonic()
                reconciler.run()
                reconciler.finish()
                self._wait()
                took = time.monotonic() - begun
            # The engine has none of them any more: remove them from Glance.
            reconciler.run()
        return took

    @contextlib.contextmanager
    def _on_engine(self, names: list[str]) -> Iterator[None]:
        for name in names:
            layer = archives.tar({"content": f"{name} {time.time_ns()}".encode()})
            self.client.load_image([archives.archive([layer], tags=[name])])
        try:
            yield
        finally:
            for name in names:
                self.client.remove_image(name)

    def _wait(self) -> None:
        """Wait until all images in Glance are active."""
        url = "/images?limit=1&status=in:queued,importing"
        probes.wait_until(
            lambda: not self.glance.get(url).json()["images"],
            "Glance has not made all images active",
            timeout=600,
            interval=INTERVAL,
        )


def times(images: int) -> tuple[float, float]:
    """Return the seconds until so many images are active: sync, and bare calls."""
    cloud.up()
    supervisor.stop(SERVICE)
    try:
        listed = Listing(images)
        calls = listed.by_calls()
        return listed.by_sync(), calls
    finally:
        services.start(SERVICE)
