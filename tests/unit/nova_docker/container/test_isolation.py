# SPDX-License-Identifier: Apache-2.0
"""How strongly a server is isolated."""

import pytest
from nova import exception

from nova_docker.container import isolation
from tests import samples


def flavor(level=None, net_admin=None):
    specs = {"docker:isolation": level, "docker:net_admin": net_admin}
    return samples.flavor(extra_specs={k: v for k, v in specs.items() if v is not None})


def test_the_flavor_decides_and_else_the_configuration():
    assert isolation.level_of(flavor(), "user") == "user"
    assert isolation.level_of(flavor(), "shared") == "shared"
    assert isolation.level_of(flavor("shared"), "user") == "shared"
    assert isolation.level_of(flavor("user"), "shared") == "user"


@pytest.mark.parametrize("level", ["", "USER", "none", "gVisor"])
def test_an_unknown_level_is_refused(level):
    with pytest.raises(exception.InvalidInput, match="docker:isolation"):
        isolation.refuse(flavor(level), "user", {})


def test_a_level_that_the_host_does_not_have_is_refused_with_the_reason():
    missing = {"user": "the kernel is too old"}
    with pytest.raises(exception.InvalidInput, match="the kernel is too old"):
        isolation.refuse(flavor("user"), "shared", missing)
    isolation.refuse(flavor(), "shared", missing)


def test_a_malformed_switch_is_refused():
    with pytest.raises(exception.InvalidInput, match="docker:net_admin=perhaps"):
        isolation.refuse(flavor(net_admin="perhaps"), "user", {})


@pytest.mark.parametrize(
    ("labels", "level"),
    [
        (None, "shared"),
        ({}, "shared"),
        ({isolation.LABEL: "user"}, "user"),
        ({isolation.LABEL: "shared"}, "shared"),
        ({isolation.LABEL: "gvisor"}, "gvisor"),
        ({isolation.LABEL: "other"}, "shared"),
    ],
)
def test_a_container_of_an_earlier_release_is_shared(labels, level):
    assert isolation.of_container(labels) == level


@pytest.mark.parametrize(
    ("level", "net_admin", "more"),
    [
        ("user", None, {"NET_ADMIN", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_BOOT"}),
        ("user", "false", {"NET_RAW", "SETFCAP", "SETPCAP", "SYS_BOOT"}),
        ("shared", None, set()),
        ("shared", "true", set()),
        ("gvisor", None, {"NET_ADMIN", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_BOOT"}),
        ("gvisor", "false", {"NET_RAW", "SETFCAP", "SETPCAP", "SYS_BOOT"}),
    ],
)
def test_root_may_do_more_if_the_kernel_is_not_shared(level, net_admin, more):
    given = isolation.container(level, flavor(net_admin=net_admin))["CapAdd"]
    assert set(given) == set(isolation._SHARED_CAPABILITIES) | more


def refuse_change(old, new, current="user"):
    isolation.refuse_change(old, new, "user", current)


@pytest.mark.parametrize(
    ("old", "new", "current"),
    [
        (flavor(), flavor(), "user"),
        (flavor(), flavor("user"), "user"),
        (flavor("user", "false"), flavor(None, "0"), "user"),
        (flavor("shared"), flavor("shared", "false"), "shared"),
        (flavor("gvisor"), flavor("gvisor"), "gvisor"),
        # A server of an earlier release has no user namespace, and stays without.
        (flavor(), flavor(), "shared"),
        (flavor(), flavor("shared"), "shared"),
    ],
)
def test_a_resize_keeps_the_isolation(old, new, current):
    refuse_change(old, new, current)


@pytest.mark.parametrize(
    ("old", "new", "current"),
    [
        (flavor(), flavor("shared"), "user"),
        (flavor("shared"), flavor(), "shared"),
        (flavor("gvisor"), flavor(), "gvisor"),
        (flavor(), flavor("gvisor"), "user"),
        (flavor(), flavor(net_admin="false"), "user"),
        (flavor(net_admin="false"), flavor(), "user"),
        (flavor(), flavor("user"), "shared"),
    ],
)
def test_a_resize_to_another_isolation_is_refused(old, new, current):
    with pytest.raises(exception.ResizeError, match="isolation of a server cannot"):
        refuse_change(old, new, current)


def test_each_level_is_a_trait():
    assert isolation.traits({"user": "no kernel"}) == {
        "CUSTOM_DOCKER_ISOLATION_USER": False,
        "CUSTOM_DOCKER_ISOLATION_SHARED": True,
        "CUSTOM_DOCKER_ISOLATION_GVISOR": True,
    }


def test_nics_change_only_while_gvisor_does_not_use_them():
    for level, in_use in (("gvisor", False), ("user", True), ("shared", True)):
        isolation.refuse_change_of_nics(level, in_use, "1")
    with pytest.raises(exception.AttachInterfaceNotSupported, match="stop the server"):
        isolation.refuse_change_of_nics("gvisor", True, "1")
