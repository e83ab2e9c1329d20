# SPDX-License-Identifier: Apache-2.0
"""What has been refused is refused again, until it may have changed."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.image import refusals
from nova_docker.image.refusals import Refusals
from tests import samples


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

    monkeypatch.setattr("time.monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def known(clock):
    return Refusals()


def test_an_image_with_a_fault_is_refused_for_every_flavor(known):
    known.check(samples.image_meta(), 1)
    known.remember(samples.image_meta(), reason="empty archive")
    for root in (0, 1, 2**60):
        with pytest.raises(exception.ImageUnacceptable, match="empty archive"):
            known.check(samples.image_meta(), root)


def test_a_large_image_is_refused_for_smaller_disks_only(known):
    known.remember(samples.image_meta(), at_least=1000)
    for root in (1, 999):
        with pytest.raises(exception.FlavorDiskSmallerThanImage, match="1000 bytes"):
            known.check(samples.image_meta(), root)
    for root in (0, 1000, 2000):
        known.check(samples.image_meta(), root)


def test_other_images_and_other_data_are_not_refused(known):
    known.remember(samples.image_meta(checksum="a" * 32), reason="empty archive")
    known.check(samples.image_meta(checksum="b" * 32), 1)
    known.check(samples.image_meta(id=samples.uuid(), checksum="a" * 32), 1)
    with pytest.raises(exception.ImageUnacceptable):
        known.check(samples.image_meta(checksum="a" * 32), 1)


def test_what_the_owner_can_change_makes_no_difference(known):
    known.remember(samples.image_meta(), reason="empty archive")
    with pytest.raises(exception.ImageUnacceptable):
        known.check(
            samples.image_meta(name="other", properties={"os_type": "linux"}), 1
        )


def test_a_refusal_is_forgotten_after_an_hour(known, clock):
    known.remember(samples.image_meta(), reason="empty archive")
    clock.now += refusals.LIFETIME + 1
    known.check(samples.image_meta(), 1)


def test_the_number_of_images_is_bounded(known, monkeypatch):
    monkeypatch.setattr(refusals, "MAX_IMAGES", 2)
    images = [samples.image_meta(id=samples.uuid()) for _ in range(3)]
    for image_meta in images:
        known.remember(image_meta, reason="empty archive")
    known.check(images[0], 1)
    for image_meta in images[1:]:
        with pytest.raises(exception.ImageUnacceptable):
            known.check(image_meta, 1)
