# SPDX-License-Identifier: Apache-2.0
"""Measure images on the engine, and give Glance's images their locations."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Collection
from concurrent.futures import Executor
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor

from oslo_log import log as logging

from docker_engine import location
from docker_engine.archive import ArchiveError
from docker_engine.client import DockerClient
from glance_docker.export import Measurement
from glance_docker.image_metadata import Key
from glance_docker.slots import Slots
from glance_docker.sync import compare
from glance_docker.sync.images import EngineImages
from glance_docker.sync.images import ListedImage

LOG = logging.getLogger(__name__)

# Images to read at the same time: the engine writes each to its disk before it
# sends it.
_READERS = 2


@dataclasses.dataclass
class _Job:
    """The work of giving one image its location.

    :ivar digest: ``repository@sha256:…`` of the image in a registry, if it has one
    :ivar error: why the image has no location, once ``finished`` is set
    """

    key: Key
    image: ListedImage
    digest: str | None
    finished: threading.Event = dataclasses.field(default_factory=threading.Event)
    error: Exception | None = None


class Locator:
    """Gives images in Glance their locations, in the background.

    A location contains the size of the image's archive, which the engine only knows
    by writing the archive. An image is measured once, however many tags it has.

    All methods must be called from one thread.

    :param engine: the engine's name in locations
    :param callers: runs the calls to Glance
    :param slots: bounds the images that are read at the same time, by this process
        and others
    :ivar unusable: images that cannot have a location, because they cannot be run
        or have a name that a location cannot contain
    """

    def __init__(
        self,
        client: DockerClient,
        images: EngineImages,
        engine: str,
        callers: Executor,
        slots: Slots,
    ) -> None:
        self._client = client
        self._images = images
        self._engine = engine
        self._callers = callers
        self._slots = slots
        self._stopping = threading.Event()
        self._readers = ThreadPoolExecutor(_READERS, "engine")
        self._measurements: dict[str, Future[Measurement]] = {}
        self._jobs: dict[Key, _Job] = {}
        self.unusable: set[Key] = set()

    def start(self, key: Key, image: ListedImage, digest: str | None) -> None:
        """Begin to give an image its location, unless that has begun already."""
        if (job := self._jobs.get(key)) and not job.finished.is_set():
            return
        job = self._jobs[key] = _Job(key, image, digest)
        measurement = self._measurement(key.image_id)
        measurement.add_done_callback(lambda done: self._measured(job, done))

    def retain(self, keys: Collection[Key]) -> None:
        """Forget all images but these, which the engine still has."""
        self.unusable.intersection_update(keys)
        image_ids = {key.image_id for key in keys if key not in self.unusable}
        self._measurements = {
            image_id: measurement
            for image_id, measurement in self._measurements.items()
            if image_id in image_ids
        }
        self._jobs = {
            key: job
            for key, job in self._jobs.items()
            if key in keys or not job.finished.is_set()
        }

    @property
    def busy(self) -> bool:
        return not all(job.finished.is_set() for job in self._jobs.values())

    def wait(self) -> None:
        """Wait for all images that have been started.

        :raises Exception: why the first of those that failed has no location;
            unusable images do not count as failed
        """
        jobs = list(self._jobs.values())
        for job in jobs:
            job.finished.wait()
        for job in jobs:
            if job.error:
                raise job.error

    def close(self) -> None:
        """Stop reading images. Jobs that have not begun are dropped."""
        self._stopping.set()
        self._readers.shutdown(cancel_futures=True)

    def _measurement(self, image_id: str) -> Future[Measurement]:
        found = self._measurements.get(image_id)
        if found is None or (found.done() and found.exception()):
            found = self._readers.submit(self._measure, image_id)
            self._measurements[image_id] = found
        return found

    def _measure(self, image_id: str) -> Measurement:
        with self._slots.taken(stopping=self._stopping):
            return Measurement(self._client, image_id)

    def _measured(self, job: _Job, measurement: Future[Measurement]) -> None:
        with contextlib.suppress(RuntimeError):  # the callers are shut down
            self._callers.submit(self._locate, job, measurement)

    def _locate(self, job: _Job, measurement: Future[Measurement]) -> None:
        key = job.key
        try:
            url = location.EngineImage(
                engine=self._engine,
                name=key.name,
                image_id=key.image_id,
                size=measurement.result().size(key.name),
                digest=job.digest,
            ).url
            location.parse(url)
            self._images.locate(job.image, url)
            job.image.status = compare.IMPORTING
        except (ArchiveError, ValueError) as error:
            LOG.warning("Leaving out %s: %s", key.name, error)
            self.unusable.add(key)
        except Exception as error:
            LOG.warning("Cannot give %s its location yet: %s", key.name, error)
            job.error = error
        finally:
            job.finished.set()
