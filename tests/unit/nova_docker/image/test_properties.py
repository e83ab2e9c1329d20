# SPDX-License-Identifier: Apache-2.0
"""Properties of images that Nova does not know itself."""

from __future__ import annotations

import pytest
from nova import exception

from nova_docker.image import properties
from tests import samples


def init(value, **values):
    metadata = {} if value is None else {"image_os_init": value}
    instance = samples.instance(system_metadata=metadata)
    return properties.init(instance, samples.image_meta(**values))


@pytest.mark.parametrize("value", ["systemd", "docker-init", "none"])
def test_an_image_can_request_an_init(value):
    assert init(value) == value


@pytest.mark.parametrize("value", [None, ""])
def test_an_image_need_not_request_any(value):
    assert init(value) is None


def test_an_unknown_init_is_refused_with_those_that_exist():
    with pytest.raises(exception.ImageUnacceptable, match="systemd, docker-init, none"):
        init("upstart")


def test_the_property_of_a_servers_own_image_does_not_apply_to_a_rescue_image():
    assert init("systemd", id=samples.uuid()) is None


def settings(values, **image):
    metadata = {f"image_{name}": value for name, value in values.items()}
    flavor = samples.flavor(extra_specs={"docker:shm_size_mb": "32"})
    instance = samples.instance(system_metadata=metadata, flavor=flavor)
    return properties.settings(instance, samples.image_meta(**image))


def test_an_image_can_ask_for_less_than_the_flavor_has():
    asked = {"os_read_only": "true", "os_shm_size_mb": "16"}
    found = settings(asked)
    assert (found.read_only, found.shm_mb) == (True, 16)
    with pytest.raises(exception.ImageUnacceptable, match="docker:shm_size_mb=32"):
        settings({"os_shm_size_mb": "33"})


def test_a_rescue_image_has_what_the_flavor_says():
    asked = {"os_read_only": "true", "os_shm_size_mb": "16"}
    found = settings(asked, id=samples.uuid())
    assert (found.read_only, found.shm_mb) == (False, 32)
