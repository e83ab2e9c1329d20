# SPDX-License-Identifier: Apache-2.0
"""glance-docker-sync: Glance lists what an engine has, and nothing that it has not.

States are compared, not events replayed: an event only says that it is time to
compare. So nothing is missed, whoever was away meanwhile.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging as std_logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from docker_engine import errors
from docker_engine import location
from docker_engine.archive import ArchiveError
from docker_engine.client import DockerClient
from glance_docker import conf as options
from glance_docker import listing
from glance_docker.export import Measure
from glance_docker.gateway import Catalog
from glance_docker.gateway import CatalogError
from glance_docker.gateway import Found
from glance_docker.listing import Access
from glance_docker.listing import Key

LOG = logging.getLogger(__name__)

# Seconds until what failed is tried again.
RETRY_INTERVAL = 2
# Seconds that Glance has for making images active, before it is asked.
SETTLE_INTERVAL = 5

# Of an image that has no location, and of one that gets it.
_PENDING = ("queued", "importing")

# Images that are read at a time, to measure them: the engine writes each to its
# disk before it sends it.
_READERS = 2


class Sync:
    """Keeps one engine's list in Glance.

    :param engine: its name in locations
    :param workers: calls to Glance at a time
    """

    def __init__(
        self,
        client: DockerClient,
        catalog: Catalog,
        engine: str,
        rules: listing.Rules,
        workers: int,
    ) -> None:
        self._client = client
        self._catalog = catalog
        self._engine = engine
        self._rules = rules
        self._callers = concurrent.futures.ThreadPoolExecutor(workers, "glance")
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS, "engine")
        self._known: dict[Key, Found] | None = None
        self._measures: dict[str, concurrent.futures.Future[Measure]] = {}
        # Images that get their location now.
        self._finishing: dict[Key, concurrent.futures.Future[None]] = {}
        # Images of the engine, or names, that Glance cannot have.
        self._refused: set[Key] = set()
        self._corrected = False

    def run(self, *, refresh: bool = False) -> None:
        """Compare once, and make Glance list what the engine has.

        Big images may still be ``queued`` when this returns: :meth:`finish`.

        Engine calls: "GET /images/json", and "GET /images/{name}/json" for each
        that is new.

        :param refresh: ask Glance what it has, rather than remember it
        :raises DockerError: when the engine is not there; nothing has changed then
        :raises CatalogError: when Glance failed at some image; the others are done
        """
        wanted = listing.wanted(self._client.list_images(), self._rules)
        self._refused &= wanted.keys()
        for key in self._refused:
            del wanted[key]
        if refresh or self._known is None:
            self._known = self._catalog.images()
        known = self._known
        stale = known.keys() - wanted.keys()
        new = wanted.keys() - known.keys()
        failures = self._each(self._remove, stale)
        failures += self._each(lambda key: self._add(key, wanted[key].access), new)
        failures += self._each(
            lambda key: self._correct(key, wanted[key].access),
            known.keys() & wanted.keys(),
        )
        self._corrected = True
        images = {key.image_id for key in wanted}
        self._measures = {k: v for k, v in self._measures.items() if k in images}
        for key, found in known.items():
            if found.status == "queued":
                digest = wanted[key].digest if key in wanted else None
                self._start_finishing(key, found, digest)
        if failures:
            raise failures[0]

    def finish(self) -> None:
        """Wait until all images have their location, or cannot have one.

        :raises DockerError: or CatalogError, when one has none
        """
        finishing = list(self._finishing.values())
        # All, before the first that failed ends this.
        concurrent.futures.wait(finishing)
        for future in finishing:
            future.result()
        # Those that cannot go from the list.
        self.run()

    def settle(self) -> bool:
        """See which images Glance has made active since they have their location.

        :returns: whether that are all; those that are still ``queued`` get their
            location anew at the next :meth:`run`
        :raises CatalogError: when Glance does not tell
        """
        if any(not future.done() for future in self._finishing.values()):
            return False
        self._finishing.clear()
        known = self._known or {}
        pending = {k for k, found in known.items() if found.status in _PENDING}
        if pending:
            left = self._catalog.images(_PENDING)
            for key in pending:
                known[key].status = left[key].status if key in left else "active"
            pending &= left.keys()
        return not pending

    def close(self) -> None:
        self._callers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    def _each(
        self, action: Callable[[Key], None], keys: Iterable[Key]
    ) -> list[Exception]:
        """Do something for images, several at a time; return what went wrong."""

        def attempt(key: Key) -> Exception | None:
            try:
                action(key)
            except (CatalogError, errors.DockerError) as error:
                LOG.warning("%s: %s", key.name, error)
                return error
            return None

        return [error for error in self._callers.map(attempt, list(keys)) if error]

    def _add(self, key: Key, access: Access) -> None:
        assert self._known is not None
        try:
            image = self._client.inspect_image(key.image_id)
        except errors.NotFound:
            return  # It has gone since it was listed.
        self._known[key] = self._catalog.create(key, access, image)
        LOG.info("Listing %s as %s", key.name, self._known[key].id)

    def _remove(self, key: Key) -> None:
        assert self._known is not None
        self._catalog.remove(self._known[key])
        LOG.info("%s is not on the engine any more", key.name)
        del self._known[key]

    def _correct(self, key: Key, access: Access) -> None:
        assert self._known is not None
        found = self._known[key]
        shown = (listing.shown_name(key.name), access.visibility, True)
        # Who sees a shared image is asked once, after a start: rules are read then.
        if (found.name, found.visibility, found.protected) != shown or (
            access.projects and not self._corrected
        ):
            self._catalog.correct(found, key, access)

    def _start_finishing(self, key: Key, found: Found, digest: str | None) -> None:
        if (started := self._finishing.get(key)) and not started.done():
            return
        measure = self._measures.get(key.image_id)
        if measure is None or (measure.done() and measure.exception()):
            measure = self._readers.submit(Measure, self._client, key.image_id)
            self._measures[key.image_id] = measure
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._finishing[key] = future

        def locate(measured: concurrent.futures.Future[Measure]) -> None:
            with contextlib.suppress(RuntimeError):  # closed meanwhile
                self._callers.submit(self._locate, key, found, digest, measured, future)

        measure.add_done_callback(locate)

    def _locate(
        self,
        key: Key,
        found: Found,
        digest: str | None,
        measured: concurrent.futures.Future[Measure],
        future: concurrent.futures.Future[None],
    ) -> None:
        try:
            place = location.EngineImage(
                engine=self._engine,
                name=key.name,
                image_id=key.image_id,
                size=measured.result().size(key.name),
                digest=digest,
            )
            location.parse(place.url)
            self._catalog.locate(found, place.url)
            found.status = "importing"
        except (ArchiveError, ValueError) as error:
            LOG.warning("%s is no image for Glance: %s", key.name, error)
            self._refused.add(key)
            future.set_result(None)
        except Exception as error:
            LOG.warning("%s has no location yet: %s", key.name, error)
            future.set_exception(error)
        else:
            future.set_result(None)


class Follower:
    """Keeps a list as the engine's images change, until it is told to stop.

    :param refresh_interval: seconds after which Glance is asked anew what it has
    """

    def __init__(
        self, client: DockerClient, sync: Sync, refresh_interval: float
    ) -> None:
        self._client = client
        self._sync = sync
        self._refresh_interval = refresh_interval
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._stream: Any = None
        self._trouble = ""

    def stop(self) -> None:
        self._stopping.set()
        self._woken.set()
        if self._stream:
            self._stream.close()

    def run(self) -> None:
        """Return when :meth:`stop` has been called."""
        watcher = threading.Thread(target=self._watch, name="events", daemon=True)
        watcher.start()
        due = 0.0  # when Glance is asked anew, in monotonic time
        while not self._stopping.is_set():
            self._woken.clear()
            now = time.monotonic()
            try:
                self._sync.run(refresh=now >= due)
                if now >= due:
                    due = now + self._refresh_interval
                settled = self._sync.settle()
            except (errors.DockerError, CatalogError) as error:
                self._tell(f"Cannot compare now: {error}")
                due = 0
            except Exception:
                LOG.exception("Comparing failed")
                due = 0
            else:
                self._tell("")
                self._woken.wait(due - now if settled else SETTLE_INTERVAL)
                continue
            self._stopping.wait(RETRY_INTERVAL)
        watcher.join()

    def _tell(self, trouble: str) -> None:
        """Log what is wrong, once for as long as it is."""
        if trouble and trouble != self._trouble:
            LOG.warning("%s", trouble)
        elif self._trouble and not trouble:
            LOG.info("Glance and the engine can be compared again")
        self._trouble = trouble

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._client.events(filters={"type": ["image"]}) as self._stream:
                    if self._stopping.is_set():
                        break
                    # What has happened while nobody watched.
                    self._woken.set()
                    for _ in self._stream:
                        self._woken.set()
            except errors.DockerError as error:
                LOG.warning("Lost the events of the engine: %s", error)
            self._stopping.wait(RETRY_INTERVAL)


def main(arguments: list[str] | None = None) -> int:
    """``glance-docker-sync [--once] --config-file FILE``"""
    conf = cfg.ConfigOpts()
    logging.register_options(conf)
    options.register_sync_opts(conf)
    try:
        conf(arguments if arguments is not None else sys.argv[1:], "glance-docker-sync")
        logging.setup(conf, "glance-docker-sync")
        # A line for each of a thousand calls to Glance says nothing.
        std_logging.getLogger("keystoneauth").setLevel(std_logging.WARNING)
        client = options.engine(conf.engine)
        engine = location.check_engine(conf.engine.docker_engine)
        sync = Sync(
            client,
            Catalog(options.glance(conf), engine),
            engine,
            listing.Rules(conf.sync.rule, conf.sync.access),
            conf.sync.workers,
        )
    except (cfg.Error, ValueError) as error:
        sys.exit(f"glance-docker-sync: {error}")
    with contextlib.closing(sync):
        if conf.once:
            return _once(sync)
        follower = Follower(client, sync, conf.sync.refresh_interval)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *args: follower.stop())
        follower.run()
    return 0


def _once(sync: Sync) -> int:
    try:
        sync.run()
        sync.finish()
    except (errors.DockerError, CatalogError) as error:
        LOG.error("Glance does not list all: %s", error)
        return 1
    return 0
