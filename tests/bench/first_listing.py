# SPDX-License-Identifier: Apache-2.0
"""How long Glance takes to list what an engine has, when it knows nothing of it."""

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
from glance_docker import listing
from glance_docker.gateway import Catalog
from glance_docker.gateway import Found
from glance_docker.listing import Access
from glance_docker.listing import Key
from glance_docker.sync import Sync
from tests import archives
from tests.cloud import cloud
from tests.cloud import services

CONF = settings.ETC / "glance/glance-docker-sync.conf"
SERVICE = "glance-docker-sync"
INTERVAL = 0.5  # seconds between two looks


class Listing:
    """New images of the cloud's engine, listed in its Glance.

    By the sync's own code, in the place of the service, so that its start and
    what else the service may be at do not count.
    """

    def __init__(self, images: int) -> None:
        self.names = [f"bench-listing:{number}" for number in range(images)]
        conf = cfg.ConfigOpts()
        options.register_sync_opts(conf)
        conf([f"--config-file={CONF}"])
        self.engine = conf.engine.docker_engine
        self.client = options.engine(conf.engine)
        self.glance = options.glance(conf)
        self.catalog = Catalog(self.glance, self.engine)
        self.workers = conf.sync.workers

    def by_calls(self) -> float:
        """Seconds of bare calls of Glance, which say of all what is so of one."""
        with (
            # Glance asks the engine whether it is there.
            self._on_engine(self.names[:1]),
            concurrent.futures.ThreadPoolExecutor(self.workers) as callers,
        ):
            image = self.client.inspect_image(self.names[0])

            def make(name: str) -> Found:
                key = Key(name, image["Id"])
                found = self.catalog.create(key, Access("public"), image)
                place = location.EngineImage(self.engine, name, image["Id"], size=1)
                self.catalog.locate(found, place.url)
                return found

            begun = time.monotonic()
            made = list(callers.map(make, self.names))
            self._wait()
            took = time.monotonic() - begun
            list(callers.map(self.catalog.remove, made))
        return took

    def by_sync(self) -> float:
        """Seconds of the sync, which asks the engine of each, and reads each."""
        rules = listing.Rules((), "public")
        sync = Sync(self.client, self.catalog, self.engine, rules, self.workers)
        with contextlib.closing(sync):
            with self._on_engine(self.names):
                begun = time.monotonic()
                sync.run()
                sync.finish()
                self._wait()
                took = time.monotonic() - begun
            # They are not on the engine any more.
            sync.run()
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
        """Wait until all that Glance has is active."""
        url = "/images?limit=1&status=in:queued,importing"
        probes.wait_until(
            lambda: not self.glance.get(url).json()["images"],
            "images are not active",
            timeout=600,
            interval=INTERVAL,
        )


def times(images: int) -> tuple[float, float]:
    """Seconds until so many are active: by the sync, and by bare calls of Glance."""
    cloud.up()
    supervisor.stop(SERVICE)
    try:
        listed = Listing(images)
        calls = listed.by_calls()
        return listed.by_sync(), calls
    finally:
        services.start(SERVICE)
