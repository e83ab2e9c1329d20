# SPDX-License-Identifier: Apache-2.0
"""Compare the engine with Glance, and apply the difference to Glance."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from oslo_log import log as logging

from docker_engine import errors
from docker_engine.client import DockerClient
from glance_docker.gateway import GatewayError
from glance_docker.gateway import ImageGateway
from glance_docker.image_metadata import Key
from glance_docker.slots import Slots
from glance_docker.sync import access_rules
from glance_docker.sync import compare
from glance_docker.sync.access_rules import Access
from glance_docker.sync.images import EngineImages
from glance_docker.sync.images import ListedImage
from glance_docker.sync.locate import Locator

LOG = logging.getLogger(__name__)

_EXPORTS = 4


class WouldRemove(Exception):
    """Images that Glance lists would be removed, and nobody has asked for that."""

    def __init__(self, count: int, example: str) -> None:
        super().__init__(
            f"[sync]access is not set, and its default, hidden, would remove {count} "
            f"of the engine's images from Glance, {example} among them; set it to "
            "public, as it was in earlier versions, to keep them, or to hidden to "
            "remove them"
        )


class Reconciler:
    """Makes Glance list what one engine has, and nothing that it does not have.

    All methods must be called from one thread.

    :param engine: the engine's name in locations
    :param workers: calls to Glance at the same time
    :param slots: of exports; None for slots that no other process shares
    :param listed_rules: rules of images that the first :meth:`run` must not remove
    """

    def __init__(
        self,
        client: DockerClient,
        gateway: ImageGateway,
        engine: str,
        rules: access_rules.Rules,
        workers: int,
        slots: Slots | None = None,
        listed_rules: access_rules.Rules | None = None,
    ) -> None:
        self._client = client
        self._images = EngineImages(gateway, engine)
        self._rules = rules
        self._listed_rules = listed_rules
        self._callers = ThreadPoolExecutor(workers, "glance")
        slots = slots or Slots(None, engine, _EXPORTS)
        self._locator = Locator(client, self._images, engine, self._callers, slots)
        # What Glance has, as far as is known; None before it has been asked.
        self._listed: dict[Key, ListedImage] | None = None
        self._members_checked = False

    def run(self, *, refresh: bool = False) -> None:
        """Compare once, and apply the difference to Glance.

        Images may still be ``queued`` when this returns; see :meth:`finish`.

        Engine calls: "GET /images/json", and "GET /images/{name}/json" for each
        new image

        :param refresh: ask Glance what it has, in place of remembering it
        :raises DockerError: when the engine cannot be asked; Glance is then unchanged
        :raises GatewayError: when Glance failed for an image; the other images are
            done
        :raises WouldRemove: in the first run; Glance is then unchanged
        """
        images = self._client.list_images()
        there = access_rules.wanted(images, self._rules)
        self._locator.retain(there.keys())
        unusable = self._locator.unusable
        wanted = {key: want for key, want in there.items() if key not in unusable}
        if refresh or self._listed is None:
            self._listed = self._images.fetch()
        listed = self._listed

        # The rules, which say who the members are, only change with a restart.
        changes = compare.compare(
            wanted, listed, check_members=not self._members_checked
        )
        if self._listed_rules:
            kept = access_rules.wanted(images, self._listed_rules)
            if removed := [key for key in changes.remove if key in kept]:
                raise WouldRemove(len(removed), removed[0].name)
            self._listed_rules = None
        failures = [
            *self._for_each(changes.remove, lambda key: self._remove(listed, key)),
            *self._for_each(
                changes.add, lambda key: self._add(listed, key, wanted[key].access)
            ),
            *self._for_each(
                changes.correct,
                lambda key: self._images.correct(listed[key], key, wanted[key].access),
            ),
        ]
        self._members_checked = True
        for key in compare.without_location(wanted, listed):
            self._locator.start(key, listed[key], wanted[key].digest)
        if failures:
            raise failures[0]

    def finish(self) -> None:
        """Wait until each image has its location or has proved unusable.

        :raises DockerError: or GatewayError, when an image has no location yet
        """
        self._locator.wait()
        # Removes the unusable images from Glance.
        self.run()

    def settle(self) -> bool:
        """Ask Glance which of the pending images it has made active.

        :returns: whether all images are active. The next :meth:`run` locates those
            again that are still ``queued``.
        :raises GatewayError: when Glance cannot be asked
        """
        if self._locator.busy:
            return False
        listed = self._listed or {}
        pending = compare.pending(listed)
        if not pending:
            return True
        left = self._images.fetch([compare.WITHOUT_LOCATION, compare.IMPORTING])
        for key in pending:
            listed[key].status = left[key].status if key in left else "active"
        return not compare.pending(listed)

    def close(self) -> None:
        self._callers.shutdown(cancel_futures=True)
        self._locator.close()

    def _for_each(
        self, keys: Iterable[Key], action: Callable[[Key], None]
    ) -> list[Exception]:
        """Run an action for several images at a time; return its failures."""

        def attempt(key: Key) -> Exception | None:
            try:
                action(key)
            except (GatewayError, errors.DockerError) as error:
                LOG.warning("%s: %s", key.name, error)
                return error
            return None

        return [error for error in self._callers.map(attempt, keys) if error]

    def _add(self, listed: dict[Key, ListedImage], key: Key, access: Access) -> None:
        try:
            image = self._client.inspect_image(key.image_id)
        except errors.NotFound:
            return  # removed since it was listed
        listed[key] = self._images.create(key, access, image)
        LOG.info("Added %s as image %s", key.name, listed[key].id)

    def _remove(self, listed: dict[Key, ListedImage], key: Key) -> None:
        image = listed[key]
        self._images.remove(image)
        del listed[key]
        LOG.info("Removed %s, image %s", key.name, image.id)
